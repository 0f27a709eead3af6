-- Purpose    Takes over the sessions of a store that an earlier version has filled, some at a time.
-- Guarantee  Each moves whole, in one step, and once. One that is known already is left as it is. What a worker of ours may
--            still run is granted to nobody before its old lease ends; what an existing one had waits for it.
-- KEYS       see prelude.lua; behind those the nine of the earlier version: wanted (HASH session -> about), states (HASH session
--            -> "<since> <JSON of state and phone>"), owners (HASH session -> "<fence> <worker>"), leases, observed
--            (ZSETs session -> end), workers (HASH worker -> JSON), beats, held, counts
-- ARGV       1 how many  2 allowed moves of the state
-- Return     sessions that are left
-- Twice      the second one goes on with the rest.

local at = #KEYS - 9 -- the last one is that of the clock
local wanted, states, owners, leases, observed, workers = unpack(KEYS, at, at + 5)

local function workspace_in(about)
  local known, decoded = pcall(cjson.decode, about)
  local workspace = known and type(decoded) == 'table' and decoded.workspace_id
  if type(workspace) == 'number' then return digits(workspace) end
  return type(workspace) == 'string' and workspace or ''
end

local function take_over(session, about)
  local record = new_record(session, about, workspace_in(about))
  local since, text = string.match(call('HGET', states, session) or '', '^(%d+) (.*)$')
  if since then
    local said = cjson.decode(text)
    local state = said[1] == 'error' and 'failed' or said[1]
    if string.find(ARGV[2], ' ' .. state .. '>', 1, true) then record.state = state end
    record.since, record.phone = tonumber(since), type(said[2]) == 'string' and said[2] or ''
  end
  local fence, last = string.match(call('HGET', owners, session) or '', '^(%d+) (.*)$')
  local on_existing = call('ZSCORE', observed, session)
  if fence then record.fence, record.last, record.existing = tonumber(fence), last, on_existing and 1 or 0 end
  record.lost = math.max(now, not on_existing and tonumber(call('ZSCORE', leases, session) or 0) or 0)
  note(record, 'taken over from an earlier version', 'keeper')
  save(record)
end

local found = call('HRANDFIELD', wanted, ARGV[1], 'WITHVALUES')
for i = 1, #found, 2 do
  local session = found[i]
  if call('HEXISTS', records, session) == 0 then take_over(session, found[i + 1]) end
  for _, key in ipairs({wanted, states, owners}) do call('HDEL', key, session) end
  for _, key in ipairs({leases, observed}) do call('ZREM', key, session) end
end
local left = call('HLEN', wanted)
if left == 0 then call('UNLINK', states, owners, leases, observed, workers, unpack(KEYS, at + 6, at + 8)) end
return done(left)

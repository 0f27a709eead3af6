-- Purpose    What an existing worker was seen to run. It knows nothing of us, so what is seen is the truth.
-- Guarantee  A shorter list deletes nothing: what is missing keeps its owner, and since when is noted. A session that was
--            forgotten after the list was asked for is not brought back. What another live worker has stays there, but for a
--            session that is connected here, and there, on another existing worker, is not, or is missing or only reserved.
--            One that was connected stays so while its worker, started again, restores its login. What was ended after the
--            list was asked for stays ended; what is seen to run later is wanted again. What was to be closed (end.lua) and is not
--            listed any more is ended.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 url  3 capacity  4 lease in ms  5 when the list was asked for  6 allowed moves of the state
--            7 who stays of several with one phone  then per session seen: session, state, phone, reason, what is known about it (JSON), its workspace
-- Return     {{session, worker that has it, …}, {missing session, …}}
-- Twice      renews a moment later.

local id, began, moves = ARGV[1], tonumber(ARGV[5]), ARGV[6]
local before = worker_of(id)
if before and before.existing == 0 then
  for _, session in ipairs(sessions_of(places, id)) do release(record_of(session), 'lost: ' .. id .. ' is another', id) end
end
local is = {instance = 'observed', url = ARGV[2], capacity = tonumber(ARGV[3]), existing = 1, draining = 0, memory = 0, cpu = 0}
if not before or before.existing == 0 or before.url ~= is.url or before.capacity ~= is.capacity or left_of(id) == 0 then
  save_worker(id, is)
end
call('ZADD', live, digits(now + ARGV[4]), id)
call('ZREM', lost, id)

-- Is this one the better owner?
local function wins(record, state)
  local other = worker_of(record.worker)
  if record.reserved == 1 or record.missing > 0 or left_of(record.worker) == 0 then return true end
  return other and other.existing == 1 and state == 'connected' and (record.state ~= 'connected' or record.again > 0)
end

-- A worker that was started again lists a session before its login is restored. One that needs a new code tells it by a
-- webhook (hear.lua).
local LOGS_IN_WITHIN = 60 * 1000
local LOGGING_IN = {starting = true, qr_scanning = true, authenticated = true}

local function logs_in_again(record, state)
  if record.state ~= 'connected' or not LOGGING_IN[state] then return false end
  return record.again == 0 or now - record.again < LOGS_IN_WITHIN
end

local CLOSES_WITHIN = 60 * 1000

local seen, disputed, missing = {}, {}, {}
for i = 8, #ARGV, 6 do
  local session, state, phone, reason = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = record_of(session)
  seen[session] = true
  local gone = call('ZSCORE', forgotten, session)
  if gone and tonumber(gone) >= began then record = false end
  if record and record.ended ~= '' and (record.since >= began or record.ended == 'purging') then record = false end
  if record and record.worker ~= '' and record.worker ~= id and not wins(record, state) then
    table.insert(disputed, session)
    table.insert(disputed, record.worker)
  elseif record ~= false then
    record = record or new_record(session, ARGV[i + 4], ARGV[i + 5])
    local returns = (record.worker ~= '' and record.worker or record.last) == id
    local changed, first, before = record.missing > 0, record.worker ~= id, nil
    if record.about == '{}' and ARGV[i + 4] ~= '{}' then
      record.about, record.workspace, changed = ARGV[i + 4], ARGV[i + 5], true
    end
    if record.missing > 0 then note(record, 'listed again by ' .. id, id) end
    if record.missing > 0 or first then record.again = 0 end -- its worker was started once more, or was away
    if first then before = give(record, id, 'found at', id)
    elseif record.reserved == 1 then accept(record, id) end
    record.missing = 0
    if record.closing ~= '' and began > record.closing[1] + CLOSES_WITHIN then record.closing, changed = '', true end
    if returns and logs_in_again(record, state) then
      if record.again == 0 then record.again, changed = now, true end
      state, phone, reason = '', record.phone, record.reason
    elseif record.again > 0 then
      record.again, changed = 0, true
    end
    if report(record, state, phone, reason, not first and moves, id) or first or changed then
      one_phone(record, ARGV[7], id)
      save(record)
    end
    if first then announce(record, before) end
  end
end

for _, session in ipairs(sessions_of(places, id)) do
  if not seen[session] then
    local record = record_of(session)
    if record.reserved == 0 and record.since < began then
      local closing = record.closing
      if closing ~= '' and tonumber(closing[1]) <= began then
        finish(record, closing[2], closing[3], closing[4])
      elseif record.missing == 0 then
        record.missing = now
        note(record, 'missing at ' .. id, id)
        save(record)
      end
    end
    if record.missing > 0 then table.insert(missing, session) end
  end
end
return done({disputed, missing})

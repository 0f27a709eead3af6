-- Purpose    Has events stored in the form that an endpoint's `order` asks for, and puts those that wait alone into the
--            streams of their sessions, a page in one call.
-- Guarantee  From the first call on accepts obey, and until the last one nothing is leased: so no event overtakes an
--            older one of its session that waits in the other form. What is leased is left alone, and asked for again.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 'session' | 'none'  2 after which entry id to go on ('': from the start)  3 entries  4 bytes of records
--            that are looked at in one call  5 how many were leased in the calls before  6 `arrivals` at the start ('')
--            7 the crash count from which on an event is a suspect: only a POST that had begun counts then (begun.lua)
-- Return     { 'done' | 'more' | 'again': from the start, a little later; after which entry id to go on, how many were
--            moved, how many are leased so far, arrivals at the start }
-- Twice      what was moved is left alone.

local wanted, after, max_entries, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local leased, suspect, moved, bytes = tonumber(ARGV[5]), tonumber(ARGV[7]), 0, 0
local order = call('HGET', COUNTS, 'order')
if wanted == 'none' or order == wanted then
  if order ~= wanted then call('HSET', COUNTS, 'order', wanted) end
  return {'done', '', 0, 0, ''}
end
if order ~= SORTING then call('HSET', COUNTS, 'order', SORTING) end
local arrivals = call('HGET', COUNTS, 'arrivals') or '0'
local arrivals_then = ARGV[6] == '' and arrivals or ARGV[6]

-- A lease that is over is ended, and its holder counts as one that crashed on the event.
local function is_leased(stream, entry_id)
  local lease = call('HGET', LEASES, stream)
  if not lease then return false end
  if tonumber(call('ZSCORE', lane(stream), stream) or 0) > now then return true end
  call('HDEL', LEASES, stream)
  local crashes = entry_id .. CRASHES
  if tonumber(call('HGET', ATTEMPTS, crashes) or 0) < suspect then call('HINCRBY', ATTEMPTS, crashes, 1) end
  return false
end

local function move_attempts(entry_id, new)
  for _, what in ipairs({'', CRASHES, LOG, REPLAYED, FAILURES}) do
    local value = call('HGET', ATTEMPTS, entry_id .. what)
    if value then call('HSET', ATTEMPTS, new .. what, value) end
  end
  forget_attempts(entry_id)
end

-- The stream goes on when its head may: a head that backs off, or is delayed, still does.
local function move(entry_id, stream, new, coalesce_key)
  local due = call('ZSCORE', lane(stream), stream) or now_text
  call('ZREM', lane(stream), stream)
  call('ZREM', QUEUE, entry_id)
  call('ZADD', QUEUE, 0, new)
  move_attempts(entry_id, new)
  if coalesce_key ~= '' and call('HGET', LATEST, coalesce_key) == entry_id then call('HSET', LATEST, coalesce_key, new) end
  local new_stream = split(new)
  if call('HEXISTS', LEASES, new_stream) == 1 then return end  -- settling it schedules
  if first_of(new_stream, 1)[1] == new then call('ZADD', lane(new_stream), due, new_stream)
  else call('ZADD', lane(new_stream), 'NX', now, new_stream) end
end

local function sort(entry_id)
  local stream, _, id = split(entry_id)
  if not is_single(stream, id) then return end
  local record = call('HGET', EVENTS, id)
  if not record then return end  -- the next lease sees it
  bytes = bytes + #record
  local new = in_session_form(entry_id, record)
  if new == entry_id then return end
  if is_leased(stream, entry_id) then
    leased = leased + 1
    return
  end
  local _, _, _, coalesce_key = parse_leaving(record)
  move(entry_id, stream, new, coalesce_key)
  moved = moved + 1
end

local page = call('ZRANGEBYLEX', QUEUE, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, max_entries)
for i, entry_id in ipairs(page) do
  sort(entry_id)
  after = entry_id
  if bytes >= max_bytes or i == #page and i == max_entries then return {'more', after, moved, leased, arrivals_then} end
end
if leased > 0 or arrivals ~= arrivals_then then return {'again', '', moved, leased, arrivals} end
call('HSET', COUNTS, 'order', wanted)
return {'done', '', moved, leased, arrivals}

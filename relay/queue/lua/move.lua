-- Purpose    Moves events from the queue of one endpoint into that of another, the dead ones or those that wait.
-- Guarantee  They keep their sequence numbers, so within a stream they go before what was accepted later. An event that
--            the other endpoint has already is not there twice. What is leased is left alone; a lease that is over is
--            ended. Their attempts are counted from the start, and those that were made are remembered.
-- KEYS       see events.lua and partition.lua, then those of the other endpoint in the same order
-- ARGV       1 how many keys an endpoint has  2 'waiting' | 'dead'  3 how long (ms) a stream of which some have not come
--            yet is not leased there  then for each event: entry id, 1: the other endpoint was done with it | 0
-- Return     { how many are gone from here, how many of them the other endpoint had already, how many are leased }
-- Twice      what is no longer here is left alone.

local own, place, hold = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local FIRST = 4
local function there(key) return KEYS[key + own] end
local T_QUEUE, T_LEASES, T_ATTEMPTS, T_LATEST = there(5), there(9), there(10), there(11)
local T_DEAD_LETTERS, T_REASONS, T_COUNTS, T_LEFT_OUT = there(12), there(13), there(14), there(17)
local T_DELAYED = there(16)
local T_SCHEDULE = {[URGENT] = there(6), [NORMAL] = there(7), [BULK] = there(8)}
local bytes_of_place = place == 'dead' and 'dead_bytes' or 'bytes'
local gone, merged, leased, bytes, streams = 0, 0, 0, 0, {}

-- Whether the other endpoint has it in its queue or among its dead letters, in whichever stream.
local function is_there(entry_id, id, record, coalesce_key)
  local letter, seq = sub(entry_id, 1, 1), match(entry_id, '^%Z*%z(%d+)')
  local session = cjson.decode(match(record, '^[^\n]*\n(.*)$'):sub(#coalesce_key + 1):match('^[^\n]*'))[3]
  local forms = {entry_id, letter .. id .. '\0' .. seq .. '\0' .. id}
  if type(session) == 'string' then forms[3] = letter .. session .. '\0' .. seq .. '\0' .. id end
  local latest = coalesce_key ~= '' and call('HGET', T_LATEST, coalesce_key)
  if latest and select(3, split(latest)) == id then return true end
  for _, form in ipairs(forms) do
    if call('ZSCORE', T_QUEUE, form) or call('ZSCORE', T_DEAD_LETTERS, form) then return true end
  end
  return false
end

local function move_attempts(entry_id)
  for _, what in ipairs({LOG, REPLAYED}) do
    local value = call('HGET', ATTEMPTS, entry_id .. what)
    if value then call('HSET', T_ATTEMPTS, entry_id .. what, value) end
  end
  forget_attempts(entry_id)
end

-- The event has left this endpoint. Whether it goes to the other one, which otherwise has it already or had it.
local function goes_on(entry_id, id, record, was_done)
  gone = gone + 1
  if not record then
    forget_attempts(entry_id)
    count('lost')
    return false
  end
  local _, dedupe_until, for_several, coalesce_key = parse_leaving(record)
  if coalesce_key ~= '' and call('HGET', LATEST, coalesce_key) == entry_id then call('HDEL', LATEST, coalesce_key) end
  count(bytes_of_place, -#record)
  call('ZREM', T_LEFT_OUT, id)  -- a repeat must not bring it once more
  if for_several and (was_done == '1' or is_there(entry_id, id, record, coalesce_key)) then
    merged = merged + 1
    forget_attempts(entry_id)
    release_record(id, true, dedupe_until)
    return false
  end
  bytes = bytes + #record
  move_attempts(entry_id)
  return true, coalesce_key
end

-- So that it still goes sooner when the limit that delays it is raised.
local function move_delay(record, id)
  local not_before = string.format('%d', (parse_due(record)))
  if tonumber(not_before) <= now then return end
  for _, member in ipairs(call('ZRANGEBYSCORE', DELAYED, not_before, not_before)) do
    if sub(member, -#id - 1) == '\0' .. id then
      call('ZREM', DELAYED, member)
      call('ZADD', T_DELAYED, not_before, member)
    end
  end
end

local function move_waiting(entry_id, was_done)
  local stream, seq, id = split(entry_id)
  if not call('ZSCORE', QUEUE, entry_id) then return end
  if is_leased(stream, seq) then
    leased = leased + 1
    return
  end
  call('ZREM', QUEUE, entry_id)
  streams[stream] = true  -- of which nothing leased is left, or what was is before this one
  local record = call('HGET', EVENTS, id)
  local moves, coalesce_key = goes_on(entry_id, id, record, was_done)
  if not moves then return end
  move_delay(record, id)
  call('ZADD', T_QUEUE, 0, entry_id)
  if coalesce_key ~= '' then call('HSETNX', T_LATEST, coalesce_key, entry_id) end
end

local function move_dead(entry_id, was_done)
  local died = call('ZSCORE', DEAD_LETTERS, entry_id)
  if not died then return end
  local _, _, id = split(entry_id)
  local reason = call('HGET', REASONS, entry_id) or ''
  call('ZREM', DEAD_LETTERS, entry_id)
  call('HDEL', REASONS, entry_id)
  if not goes_on(entry_id, id, call('HGET', EVENTS, id), was_done) then return end
  call('ZADD', T_DEAD_LETTERS, died, entry_id)
  call('HSET', T_REASONS, entry_id, reason)
end

local function schedule(stream)
  local is_left = first_of(stream, 1)[1]
  if not is_left then call('ZREM', lane(stream), stream) end
  local lease = call('HGET', LEASES, stream)
  if lease then call('HSET', LEASES, stream, without_follower(stream, lease)) end
  local letter = sub(stream, 1, 1)
  local is_empty = #call('ZRANGEBYLEX', T_QUEUE, '[' .. stream .. '\0', '(' .. stream .. '\1', 'LIMIT', 0, 1) == 0
  if is_empty or call('HEXISTS', T_LEASES, stream) == 1 then return end
  call('ZADD', T_SCHEDULE[letter], is_left and now + hold or now, stream)
end

for i = FIRST, #ARGV, 2 do
  if place == 'dead' then move_dead(ARGV[i], ARGV[i + 1]) else move_waiting(ARGV[i], ARGV[i + 1]) end
end
for stream in pairs(streams) do schedule(stream) end
if bytes > 0 then call('HINCRBY', T_COUNTS, bytes_of_place, bytes) end
if gone > 0 then
  count('moved', -gone)
  call('HINCRBY', T_COUNTS, 'moved', gone - merged)
  -- They may have come in the other form than they are kept in there (forms.lua): then they are sorted.
  call('HINCRBY', T_COUNTS, 'arrivals', 1)
  if call('HGET', T_COUNTS, 'order') == 'session' then call('HSET', T_COUNTS, 'order', 'sorting') end
end
save_counts()
return {gone, merged, leased}

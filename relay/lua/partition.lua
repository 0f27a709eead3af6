-- What the scripts of one partition share. Put before each of them when it is loaded.
--
-- One partition of an endpoint's queue is twelve keys in one slot, declared in this order by every script:
--   KEYS[1]  events    HASH  eid -> record
--   KEYS[2]  queue     ZSET  every waiting eid, all scores 0, so that it is sorted by its bytes
--   KEYS[3]  urgent    ZSET  stream -> when it may next be claimed (ms): now, the end of a backoff, the end of a lease
--   KEYS[4]  normal    ZSET  the same
--   KEYS[5]  bulk      ZSET  the same
--   KEYS[6]  owners    HASH  stream -> "<fencing token of its lease> <eid that is being delivered>"
--   KEYS[7]  attempts  HASH  eid -> attempts that failed;  eid .. '\2' -> holders that died on it
--   KEYS[8]  ids       ZSET  event id -> until when (ms) a repeat of it is recognised
--   KEYS[9]  latest    HASH  stream .. '\0' .. keep -> eid that a newer event replaces
--   KEYS[10] dead      ZSET  eid -> when it died (ms)
--   KEYS[11] reasons   HASH  eid -> why it died
--   KEYS[12] counts    HASH  seq, tok, bytes and what happened so far
--
-- stream = lane letter .. session;  eid = stream .. '\0' .. sequence number (14 digits). Sessions hold no byte below 3.
-- The head of a stream is the first eid with its prefix, and only the head can be claimed: that is the order.
-- record = "<not before ms> <expires ms, 0: never> <length of keep>\n" .. keep .. what the caller stored.

local EVENTS, QUEUE, OWNERS, ATTEMPTS = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local IDS, LATEST, DEAD, REASONS, COUNTS = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local SCHEDULE = {u = KEYS[3], n = KEYS[4], b = KEYS[5]}
local LANES = {'u', 'n', 'b'}
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function count(what, by) call('HINCRBY', COUNTS, what, by or 1) end

local function lane(stream) return SCHEDULE[string.sub(stream, 1, 1)] end

local function head(stream)
  return call('ZRANGEBYLEX', QUEUE, '[' .. stream .. '\0', '(' .. stream .. '\1', 'LIMIT', 0, 1)[1]
end

local function parse(record)
  local not_before, expires, length, at = string.match(record, '^(%d+) (%d+) (%d+)\n()')
  return tonumber(not_before), tonumber(expires), string.sub(record, at, at + length - 1), at + length
end

local function schedule_next(stream)
  local eid = head(stream)
  if not eid then call('ZREM', lane(stream), stream) return end
  local not_before = parse(call('HGET', EVENTS, eid))
  call('ZADD', lane(stream), math.max(now, not_before), stream)
end

-- Takes an event out of its stream; its record stays.
local function leave_queue(stream, eid, record)
  call('ZREM', QUEUE, eid)
  call('HDEL', ATTEMPTS, eid, eid .. '\2')
  local _, _, keep = parse(record)
  if keep ~= '' and call('HGET', LATEST, stream .. '\0' .. keep) == eid then
    call('HDEL', LATEST, stream .. '\0' .. keep)
  end
end

local function erase(eid)
  count('bytes', -call('HSTRLEN', EVENTS, eid))
  call('HDEL', EVENTS, eid)
end

local function bury(stream, eid, record, reason)
  leave_queue(stream, eid, record)
  call('ZADD', DEAD, now, eid)
  call('HSET', REASONS, eid, reason)
  count('dead')
end

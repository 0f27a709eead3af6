-- What the scripts of one endpoint's part of a partition share. Put after events.lua when they are loaded.
--
--   KEYS[5]  queue     ZSET    every waiting eid, all scores 0, so that it is sorted by its bytes
--   KEYS[6]  urgent    ZSET    stream -> when it may next be claimed (ms): now, the end of a backoff, of a lease
--   KEYS[7]  normal    ZSET    the same
--   KEYS[8]  bulk      ZSET    the same
--   KEYS[9]  owners    HASH    stream -> "<fencing token of its lease> <seq of the last eid leased, 14 digits>
--                              <1: others followed it then | 0> <the first eid leased>"
--   KEYS[10] attempts  HASH    eid -> attempts that failed;  eid .. '\2' -> holders that died on it;
--                              eid .. '\3' -> its last attempts, a line each: "<when, ms> <what came of it>";
--                              eid .. '\4' -> it was replayed, and no longer expires
--   KEYS[11] latest    HASH    kept -> eid that a newer event replaces
--   KEYS[12] dead      ZSET    eid -> when it died (ms)
--   KEYS[13] reasons   HASH    eid -> why it died
--   KEYS[14] counts    HASH    tok, bytes and what happened so far; left: of how many LEFT has told
--   KEYS[15] left      LIST    of pages about events that have left, the last at its end: "<when, ms> <how many>
--                              <how many on all pages so far>\n", then for each "<accepted, ms> <how> <failed attempts>
--                              <bytes of its last attempts> <what came of it>\n<eid>\1<its last attempts, as above>"
--
-- stream = lane letter .. session, or .. event id where there is no session or no order. It holds no byte below 3.
-- The head of a stream is the first eid with its prefix, and what is leased begins with the head: that is the order.
-- A newer event that replaces a waiting one takes over its sequence number, and with it its place.
local QUEUE, OWNERS, ATTEMPTS, LATEST = KEYS[5], KEYS[9], KEYS[10], KEYS[11]
local DEAD, REASONS, COUNTS, LEFT = KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local SCHEDULE = {u = KEYS[6], n = KEYS[7], b = KEYS[8]}
local LANES = {'u', 'n', 'b'}

local happened = {}
local function count(what, by) happened[what] = (happened[what] or 0) + (by or 1) end
local function save_counts()
  for what, by in pairs(happened) do call('HINCRBY', COUNTS, what, by) end
end

local function lane(stream) return SCHEDULE[sub(stream, 1, 1)] end

-- The first `most` of a stream.
local function first_of(stream, most)
  return call('ZRANGEBYLEX', QUEUE, '[' .. stream .. '\0', '(' .. stream .. '\1', 'LIMIT', 0, most)
end

-- What stands in `owners`. Only a lease takes events out of a stream, so what followed one is there until that is
-- settled, unless a newer event took its place. Where nothing followed, something may have come since: accepted, or
-- replayed.
local function owner_of(token, stream, first, last, follower)
  local at = #stream + 2
  return token .. ' ' .. sub(last, at, at + 13) .. (follower and ' 1 ' or ' 0 ') .. first
end

local function is_owned_by(owner, token)
  return owner and find(owner, token .. ' ', 1, true) == 1
end

local function is_followed(owner, token)
  local at = #token + 17
  return sub(owner, at, at) == '1'
end

local function first_owned(owner)
  return match(owner, '^%d+ %d+ %d (.*)$')
end

local function forget_attempts(eid) call('HDEL', ATTEMPTS, eid, eid .. '\2', eid .. '\3', eid .. '\4') end

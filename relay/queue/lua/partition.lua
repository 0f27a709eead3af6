-- What the scripts of one endpoint's part of a partition share. Put after events.lua when they are loaded.
--
--   KEYS[5]  queue     ZSET    every waiting entry id, all scores 0, so that it is sorted by its bytes
--   KEYS[6]  urgent    ZSET    stream -> when it may next be leased (ms): now, the end of a backoff, of a lease
--   KEYS[7]  normal    ZSET    the same
--   KEYS[8]  bulk      ZSET    the same
--   KEYS[9]  leases    HASH    stream -> "<fencing token of its lease> <seq of the last entry leased, 14 digits>
--                              <1: others followed it then | 0> <entry id of the first one leased>"
--   KEYS[10] attempts  HASH    entry id -> attempts that failed;  entry id .. CRASHES -> its crash count: holders in a
--                              row whose lease ended while they had it;  entry id .. LOG -> its last attempts, a line
--                              each: "<when, ms> <summary>";  entry id .. REPLAYED -> it no longer expires;  entry id
--                              .. FAILURES -> "<failed POSTs since the last that counted as an attempt> <when the last
--                              one failed, ms by the circuit's clock> <how long it kept failing while others were delivered, ms> <the last
--                              answer rejected it: 1 | 0>"
--   KEYS[11] latest    HASH    coalesce key -> the entry id that a newer event replaces
--   KEYS[12] dead      ZSET    entry id -> when it died (ms)
--   KEYS[13] reasons   HASH    entry id -> why it died
--   KEYS[14] counts    HASH    token: the last one given; bytes: of all records that wait; dead_bytes: of those that
--                              are dead; kept_bytes: of those in `bodies`; history: events on all pages so far; moved: how many more came from another
--                              endpoint than went to one; how often each thing has happened; of some what lately.lua
--                              notes; and what forms.lua keeps
--   KEYS[15] history   LIST    of pages about events that have left, the newest at its end: "<when, ms> <events on it>
--                              <events on all pages so far>\n", then for each event "<accepted, ms> <state> <failed
--                              attempts> <bytes of its attempt log> <summary>\n<entry id>\1<its attempt log, as above>"
--   KEYS[16] delayed   ZSET    what a limit delays -> not before (ms): "<limit> <us for one of its tokens> <its burst>
--                              <not before for all other limits, ms>\0<session or event id>\0<event id>". What has
--                              left, or is due, may still stand there.
--   KEYS[17] left_out  ZSET    id of an event that is not here because the backlog was full, while other endpoints
--                              took it -> until when (ms) a repeat brings it in
--   KEYS[18] bodies    HASH    event id -> record of an event that was delivered, as it was (`retention.bodies`)
--   KEYS[19] kept      ZSET    of each in `bodies`: sequence number (14 digits) .. '\0' .. event id -> when it was
--                              delivered (ms)
--   KEYS[20] awaits    HASH    session -> what goes first in it: "<until (ms) the rest waits for it to come>", and when it
--                              has come: "<until (ms) the rest waits for it, if it fails> <its entry id>". What is over
--                              may still stand there.
--
-- stream = lane letter .. session, or .. event id where there is no session or no order. It holds no byte below 3.
-- The head of a stream is the first entry id with its prefix, and a lease begins with the head: that is the order. A
-- newer event that replaces a waiting one takes over its sequence number, and with it its place.
local QUEUE, LEASES, ATTEMPTS, LATEST = KEYS[5], KEYS[9], KEYS[10], KEYS[11]
local DEAD_LETTERS, REASONS, COUNTS, HISTORY, DELAYED = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local AWAITS = KEYS[20]
local SCHEDULE = {[URGENT] = KEYS[6], [NORMAL] = KEYS[7], [BULK] = KEYS[8]}
local LANES = {URGENT, NORMAL, BULK}

local happened = {}
local function count(what, by) happened[what] = (happened[what] or 0) + (by or 1) end
local function save_counts()
  for what, by in pairs(happened) do call('HINCRBY', COUNTS, what, by) end
end

local function lane(stream) return SCHEDULE[sub(stream, 1, 1)] end

-- The first entries of a stream, at most `limit`.
local function first_of(stream, limit)
  return call('ZRANGEBYLEX', QUEUE, '[' .. stream .. '\0', '(' .. stream .. '\1', 'LIMIT', 0, limit)
end

-- What `leases` holds of a stream. Only its holder takes events out of a stream, so what followed an event is there
-- until that is settled, unless a newer event took its place. Where nothing followed, something may have come since:
-- accepted, or replayed.
local function make_lease(token, stream, first, last, follower)
  local at = #stream + 2
  return token .. ' ' .. sub(last, at, at + 13) .. (follower and ' 1 ' or ' 0 ') .. first
end

local function is_held_by(lease, token)
  return lease and find(lease, token .. ' ', 1, true) == 1
end

local function is_followed(lease, token)
  local at = #token + 17
  return sub(lease, at, at) == '1'
end

local function first_leased(lease)
  return match(lease, '^%d+ %d+ %d (.*)$')
end

local function forget_attempts(entry_id)
  call('HDEL', ATTEMPTS, entry_id, entry_id .. CRASHES, entry_id .. LOG, entry_id .. REPLAYED, entry_id .. FAILURES)
end

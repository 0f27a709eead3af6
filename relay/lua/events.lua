-- What all scripts of a partition share. Put before each of them when it is loaded.
--
-- A partition is one slot. Its events lie there once, however many endpoints they are for:
--   KEYS[1] events  HASH    event id -> record
--   KEYS[2] refs    HASH    event id -> how many endpoints still hold it; only of events for more than one
--   KEYS[3] ids     ZSET    id of an event that has left -> until when (ms) a repeat of it is recognised
--   KEYS[4] seq     STRING  the last sequence number
-- then, for each endpoint that the script is about, the eleven keys that partition.lua explains.
--
-- record = "<seq> <accepted, ms> <not before, ms after> <time to live, ms, 0: for ever> <recognise repeats for, ms>
--           <endpoints> <lane> <length of kept>\n" in one line .. kept .. what the caller stored;
-- kept = '', or lane .. session .. '\0' .. what a newer event replaces this one by.
local EVENTS, REFS, IDS, SEQ = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- accepted, not before (a moment), expires (a moment, 0: never), recognised until, endpoints, kept
local function parse(record)
  local accepted, delay, ttl, remember, endpoints, length, at =
    string.match(record, '^%d+ (%d+) (%d+) (%d+) (%d+) (%d+) %a (%d+)\n()')
  accepted, ttl = tonumber(accepted), tonumber(ttl)
  return accepted, accepted + tonumber(delay), ttl > 0 and accepted + ttl or 0, accepted + tonumber(remember),
    tonumber(endpoints), string.sub(record, at, at + length - 1)
end

-- eid = stream .. '\0' .. sequence number (14 digits) .. '\0' .. event id
local function split(eid)
  local at = string.find(eid, '\0', 1, true)
  return string.sub(eid, 1, at - 1), tonumber(string.sub(eid, at + 1, at + 14)), string.sub(eid, at + 16)
end

-- One endpoint has no more use for the event; the last one takes its record along.
local function let_go(id, endpoints, recognised_until)
  if endpoints > 1 then
    if call('HINCRBY', REFS, id, -1) > 0 then return end
    call('HDEL', REFS, id)
  end
  call('HDEL', EVENTS, id)
  if recognised_until > now then call('ZADD', IDS, recognised_until, id) end
end

-- What is left of an event that has left, for those who look for it: a line of its endpoint's log, and its history.
local function farewell(eid, accepted, how, attempts, told, history)
  return string.format('%d %d %s %d ', now, accepted, how, attempts) .. string.gsub(told, '\n', ' ') .. '\n' .. eid ..
    '\n' .. (history or '')
end

local function append_to(log, lines, most)
  if most == 0 or #lines == 0 then return end
  for i = 1, #lines, 1000 do call('RPUSH', log, unpack(lines, i, math.min(i + 999, #lines))) end
  call('LTRIM', log, -most, -1)
end

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
local call, ARGV = redis.call, ARGV
local find, match, sub = string.find, string.match, string.sub

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%d', now)

-- A command with many arguments costs a fraction of many commands. Lua's stack is not endless.
local PART = 1000
local function with_all(command, key, arguments)
  for i = 1, #arguments, PART do call(command, key, unpack(arguments, i, math.min(i + PART - 1, #arguments))) end
end

-- What matters when an event leaves: accepted (as text), recognised until (a moment), whether it is for several
-- endpoints, kept. The record may end where its content begins.
local function parse_leaving(record)
  local since, known_for = match(record, '^%d+ (%d+) %d+ %d+ (%d+) 1 %a 0\n')
  if since then return since, since + known_for, false, '' end  -- nearly all
  local accepted, remember, endpoints, length, at =
    match(record, '^%d+ (%d+) %d+ %d+ (%d+) (%d+) %a (%d+)\n()')
  local kept = length == '0' and '' or sub(record, at, at + length - 1)
  return accepted, accepted + remember, endpoints ~= '1', kept
end

-- What matters while it waits: not before (a moment), expires (a moment, 0: never). Most may be sent at any time.
local function parse_due(record)
  if find(record, '^%d+ %d+ 0 0 ') then return 0, 0 end
  local accepted, delay, ttl = match(record, '^%d+ (%d+) (%d+) (%d+) ')
  return accepted + delay, ttl ~= '0' and accepted + ttl or 0
end

-- eid = stream .. '\0' .. sequence number (14 digits) .. '\0' .. event id
local function split(eid)
  local at = find(eid, '\0', 1, true)
  return sub(eid, 1, at - 1), tonumber(sub(eid, at + 1, at + 14)), sub(eid, at + 16)
end

-- One endpoint has no more use for the event; the last one takes its record along.
local function let_go(id, for_several, recognised_until)
  if for_several then
    if call('HINCRBY', REFS, id, -1) > 0 then return end
    call('HDEL', REFS, id)
  end
  call('HDEL', EVENTS, id)
  if recognised_until > now then call('ZADD', IDS, recognised_until, id) end
end

-- Notes an event that has left on a page, for those who look for it. `told` is one line.
local function farewell(page, eid, accepted, how, attempts, told, history)
  local n = #page
  page[n + 1] = accepted .. ' ' .. how .. ' ' .. attempts .. ' ' .. #history .. ' ' .. told .. '\n'
  page[n + 2], page[n + 3], page[n + 4] = eid, '\1', history
end

-- Many on one page: that costs the store a third less than a line of the list for each. The oldest pages go, when those
-- after them tell of enough.
local function append_page(left, counts, page, most)
  local n = #page / 4
  if n == 0 or most == 0 then return end
  local so_far = call('HINCRBY', counts, 'left', n)
  call('RPUSH', left, now_text .. ' ' .. n .. ' ' .. so_far .. '\n' .. table.concat(page))
  while so_far - match(call('LINDEX', left, 0), '^%d+ %d+ (%d+)') >= most do call('LPOP', left) end
end

-- What all scripts of a partition share. Put before each of them when it is loaded.
--
-- A partition is one slot. Its events lie there once, however many endpoints they are for:
--   KEYS[1] events  HASH    event id -> record
--   KEYS[2] refs    HASH    event id -> how many endpoints still hold it; only of events for more than one
--   KEYS[3] dedupe  ZSET    id of an event that has left -> until when (ms) a repeat of it is recognised; and of events
--                           whose repeats must have the same content: id .. DIGEST .. digest -> the same
--   KEYS[4] seq     STRING  the last sequence number
-- then, for each endpoint that the script is about, the keys that partition.lua explains.
--
-- record = "<seq> <accepted, ms> <not before, ms after> <time to live, ms, 0: for ever> <recognise repeats for, ms>
--           <how many endpoints> <lane letter> <length of coalesce key>\n" in one line .. coalesce key
--           .. what the caller stored (relay/queue/codec.py)
-- coalesce key = '', or lane letter .. session or event id .. '\0' .. what the producer named
-- entry id = stream .. '\0' .. sequence number (14 digits) .. '\0' .. event id; partition.lua says what a stream is
local EVENTS, REFS, DEDUPE, SEQ = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ARGV = ARGV
local find, match, sub = string.find, string.match, string.sub

-- A lane is one letter, as it is the beginning of every stream, and of several keys of each waiting event.
local URGENT, NORMAL, BULK = 'u', 'n', 'b'
-- What follows an entry id in the fields of `attempts` (partition.lua).
local CRASHES, LOG, REPLAYED, FAILURES = '\2', '\3', '\4', '\5'
local DIGEST = '\2'  -- follows an event id in the members of `dedupe`
local ID_AT = 17  -- behind the stream, where in an entry id the event id begins

local now_text = string.format('%d', now)

-- A command with many arguments costs a fraction of many commands. Lua's stack is not endless.
local PART = 1000
local function with_all(command, key, arguments)
  for i = 1, #arguments, PART do call(command, key, unpack(arguments, i, math.min(i + PART - 1, #arguments))) end
end

-- What matters when an event leaves: when it was accepted (ms, as text), until when a repeat of it is recognised (ms),
-- whether it is for several endpoints, its coalesce key. The record may end where its content begins.
local function parse_leaving(record)
  local since, window = match(record, '^%d+ (%d+) %d+ %d+ (%d+) 1 %a 0\n')
  if since then return since, since + window, false, '' end  -- nearly all
  local accepted, dedupe_window, endpoints, length, at =
    match(record, '^%d+ (%d+) %d+ %d+ (%d+) (%d+) %a (%d+)\n()')
  local coalesce_key = length == '0' and '' or sub(record, at, at + length - 1)
  return accepted, accepted + dedupe_window, endpoints ~= '1', coalesce_key
end

-- What matters while it waits: not before (ms), expires (ms, 0: never). Most may be sent at any time.
local function parse_due(record)
  if find(record, '^%d+ %d+ 0 0 ') then return 0, 0 end
  local accepted, delay, ttl = match(record, '^%d+ (%d+) (%d+) (%d+) ')
  return accepted + delay, ttl ~= '0' and accepted + ttl or 0
end

-- The stream, the sequence number and the event id of an entry id.
local function split(entry_id)
  local at = find(entry_id, '\0', 1, true)
  return sub(entry_id, 1, at - 1), tonumber(sub(entry_id, at + 1, at + 14)), sub(entry_id, at + 16)
end

-- One endpoint has no more use for the event; when it is the last one, the record is deleted.
local function release_record(id, for_several, dedupe_until)
  if for_several then
    if call('HINCRBY', REFS, id, -1) > 0 then return end
    call('HDEL', REFS, id)
  end
  call('HDEL', EVENTS, id)
  if dedupe_until > now then call('ZADD', DEDUPE, dedupe_until, id) end
end

-- Adds an event that has left to a page of the history. `summary` is one line.
local function add_to_page(page, entry_id, accepted, state, attempts, summary, attempt_log)
  local n = #page
  page[n + 1] = accepted .. ' ' .. state .. ' ' .. attempts .. ' ' .. #attempt_log .. ' ' .. summary .. '\n'
  page[n + 2], page[n + 3], page[n + 4] = entry_id, '\1', attempt_log
end

-- Many events on one page: that costs the store a third less than an element of the list for each. The oldest pages are
-- deleted when those after them have enough events on them.
local function append_page(history, counts, page, max_history)
  local n = #page / 4
  if n == 0 or max_history == 0 then return end
  local so_far = call('HINCRBY', counts, 'history', n)
  call('RPUSH', history, now_text .. ' ' .. n .. ' ' .. so_far .. '\n' .. table.concat(page))
  while so_far - match(call('LINDEX', history, 0), '^%d+ %d+ (%d+)') >= max_history do call('LPOP', history) end
end

-- Purpose    Says whether an event may be sent, of those that supersede each other: the newest one may.
-- Guarantee  What was superseded once stays so while the key lives. Two of them, of different sessions, are not said to
--            go within the time that one may take.
-- KEYS       1 STRING of an endpoint and of what these events are about: "<accepted, ms>\0<id>" of the newest, and of the
--            one that was sent last, behind NULs: until when that may take (ms), and its session
-- ARGV       1 when the event was accepted, or the first one that it sends once more (ms)  2 its id  3 its session
--            4 how long it may take (ms) | 0: it is only accepted, and not sent now | -1: it was sent
--            5 how long to remember (ms)
-- Return     { 'go' | 'wait': an older one is being sent | 'superseded', id of the newest }
-- Twice      is the same as once.

local accepted, id, session, takes = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])

-- What is sent once more has the id of the first one in front.
local function first_id(any) return string.match(any, '^[^~]*') end

-- Ids tell apart what was accepted in one millisecond.
local function is_newer(at, of)
  local ours, theirs = first_id(id), first_id(of)
  return ours ~= theirs and (at > accepted or at == accepted and theirs > ours)
end

local newest_at, newest, busy_until, busy_session, answer = accepted, id, 0, '', 'go'
local known = call('GET', KEYS[1])
if known then
  local at, of, until_then, by = string.match(known, '^(%d+)%z(%Z+)%z(%d+)%z(%Z*)$')
  busy_until, busy_session = tonumber(until_then), by
  if is_newer(tonumber(at), of) then newest_at, newest, answer = tonumber(at), of, 'superseded' end
end
if answer == 'go' and takes > 0 then
  if busy_until > now and busy_session ~= session then answer = 'wait'
  else busy_until, busy_session = now + takes, session end
elseif takes < 0 and busy_session == session then busy_until = 0 end
call('SET', KEYS[1], string.format('%d\0%s\0%d\0%s', newest_at, newest, busy_until, busy_session), 'PX', ARGV[5])
return {answer, newest}

-- Purpose    Notes that a send is being given to a worker, before that is asked anything.
-- Guarantee  Of a send that may have reached a worker nobody else learns that he may give it to one: he gets the note, or
--            what came of it. A worker that knows sends by their ids may be given it again in the same run; the note
--            stays as it was then, as the first time may have sent it. Only who says that he goes on in spite of the
--            note of another replaces it.
-- KEYS       1 HASH, what is known of one send:
--              handed    "<gateway>\0<worker>\0<run>\0<attempt>\0<ms>": who gave it to whom, and when; not once it has ended
--              worker    whom it was given to, once it has ended
--              answer    what its callers get (gateway/workers/send_records.py, packed); it has ended
--              end       why it is a dead letter; empty: it is none
--              promised  its caller was told our id, and that it is queued
--              stuck     ms since when nobody can be asked
-- ARGV       1 gateway  2 worker  3 run of a worker that knows sends by their ids, else empty
--            4 the attempt: what one worker turned down in it the next may get
--            5 "1": it goes on in spite of an earlier note  6 ms that it is kept
-- Return     {}: it is noted | { "handed", gateway, worker, ms ago } | { "ended", promised, end, worker, answer }
-- Twice      is the same as once.

local found = call('HMGET', KEYS[1], 'answer', 'end', 'promised', 'handed', 'worker')
if found[1] then return {'ended', found[3] or '', found[2], found[5], found[1]} end
call('PEXPIRE', KEYS[1], ARGV[6] + offset)
if found[4] and ARGV[5] ~= '1' then
  local gateway, worker, run, attempt, at = string.match(found[4], '^(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)%z(%d+)$')
  local knows_it = run ~= '' and worker == ARGV[2] and run == ARGV[3]
  if attempt ~= ARGV[4] and knows_it then return {} end
  if attempt ~= ARGV[4] then return {'handed', gateway, worker, math.max(0, now - at)} end
end
local note = {ARGV[1], ARGV[2], ARGV[3], ARGV[4], string.format('%d', now)}
call('HSET', KEYS[1], 'handed', table.concat(note, '\0'))
call('PEXPIRE', KEYS[1], ARGV[6] + offset)
return {}

-- Purpose    Notes by which id the caller of a send knows the message that its worker calls otherwise; or only that the send
--            is not under way any more.
-- Guarantee  Of a session the newest ids are kept, up to a number; the oldest go first. Who finds that no send is under way
--            finds its id as well, if it has one here.
-- KEYS       1 HASH, worker's id -> ours  2 LIST of the worker's ids, oldest first  3 STRING, the send that is under way
-- ARGV       1 our id  2 the worker's; empty: there is nothing to note  3 how many are kept  4 ms that they are kept
-- Return     nothing
-- Twice      the second time it is there already.

if call('GET', KEYS[3]) == ARGV[1] then call('DEL', KEYS[3]) end
if ARGV[2] == '' then return end
if call('HSET', KEYS[1], ARGV[2], ARGV[1]) == 1 and call('RPUSH', KEYS[2], ARGV[2]) > tonumber(ARGV[3]) then
  call('HDEL', KEYS[1], call('LPOP', KEYS[2]))
end
call('PEXPIRE', KEYS[1], ARGV[4] + offset)
call('PEXPIRE', KEYS[2], ARGV[4] + offset)

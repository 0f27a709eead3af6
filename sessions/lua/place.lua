-- Purpose    Places a session on the worker that was chosen for it.
-- Guarantee  A session with a live lease stays where it is. Never more than the worker's capacity. A new fence.
--            The lease ends with the worker's beat. On an existing worker it lasts a lease of its own instead: so long
--            the session may be missing from that worker's list.
--            Knowing nothing about a session does not overwrite what is known.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 what is known about it (JSON)  3 JSON of its first state  4 worker  5 instance  6 lease in ms
-- Return     {worker, url, fence, milliseconds left}, whoever has it now; nil when the worker is gone, another, or full
-- Twice      the second one answers the owner that the first one made.

local session, id = ARGV[1], ARGV[4]
local owner = owner_of(session)
if owner then return owner end
if not is_current(id, ARGV[5]) then return false end
local worker = worker_of(id)
if holder_of(session) ~= id and load_of(id) >= worker.capacity then return false end
redis.call(ARGV[2] == '{}' and 'HSETNX' or 'HSET', wanted, session, ARGV[2])
note(session, ARGV[3])
grant(session, id, worker.existing and now + ARGV[6] or beat_of(id), worker.existing)
return owner_of(session)

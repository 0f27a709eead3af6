-- Purpose    A worker says that it is there.
-- Guarantee  A second live process under an id is refused until the first has left, lapsed, or has the same URL; the id of an
--            existing worker always. Under a new instance the old process is gone: what it held is released in this step.
--            The same live instance keeps what it holds.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  3 url  4 capacity  5 lease in ms
-- Return     {}; or {url, milliseconds left} of the one that has the id
-- Twice      the second one finds the same live instance and changes nothing but the beat.

local id, instance, url = ARGV[1], ARGV[2], ARGV[3]
local before, left = worker_of(id), left_of(id)
if before and before.existing == 1 then return {before.url, left} end
if before and left > 0 and before.instance ~= instance and before.url ~= url then return {before.url, left} end
if not is_current(id, instance) then
  for _, session in ipairs(sessions_of(places, id)) do release(record_of(session), 'lost: ' .. id .. ' began anew', id) end
end
save_worker(id, {instance = instance, url = url, capacity = tonumber(ARGV[4]), existing = 0, draining = 0, memory = 0, cpu = 0})
call('ZADD', live, digits(now + ARGV[5]), id)
call('ZREM', lost, id)
return done({})

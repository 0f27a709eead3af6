-- Purpose    A worker says that it is there.
-- Guarantee  A second live process under an id is refused until the first has left, lapsed, or has the same URL; the id of an
--            existing worker always. Under a new instance the old process is gone: what it held is released in this step.
--            The same live instance has stopped its sessions before it registers, and keeps them under new fences: one fence
--            is one run, which knows what it has sent. What is to drain and is started again within its lease is to drain still.
--            It begins no create under a fence up to the one that is answered: what was sent to the old process may still arrive.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  3 url  4 capacity  5 lease in ms  6 does it take ids
-- Return     the last fence that was given; or {url, milliseconds left} of the one that has the id
-- Twice      the second one finds the same live instance, and raises the fences once more; nothing runs under the first ones.

local id, instance, url = ARGV[1], ARGV[2], ARGV[3]
local before, left = worker_of(id), left_of(id)
if before and before.existing == 1 then return {before.url, left} end
if before and left > 0 and before.instance ~= instance and before.url ~= url then return {before.url, left} end
local same = is_current(id, instance)
for _, session in ipairs(sessions_of(places, id)) do
  local record = record_of(session)
  if not same then
    release(record, 'lost: ' .. id .. ' began anew', id)
  elseif record.leaving ~= '' then
    release(record, 'released by ' .. id, id)
  elseif record.reserved == 0 then
    grant(record, id, 'begun anew at', id)
  end
end
save_worker(id, {instance = instance, url = url, capacity = tonumber(ARGV[4]), existing = 0, draining = 0, memory = 0, cpu = 0,
                 takes_ids = ARGV[6] == '1' and 1 or nil, drains = left > 0 and before.drains or 0})
call('ZADD', live, digits(now + ARGV[5]), id)
call('ZREM', lost, id)
return done(digits(last_given()))

-- Purpose    A worker goes, having stopped its sessions.
-- Guarantee  What it held is free at once. Another instance under the same name is left alone.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance
-- Return     1, or 0 when this instance is not registered
-- Twice      the second one finds nobody.

local id = ARGV[1]
local worker = worker_of(id)
if not worker or worker.instance ~= ARGV[2] then return 0 end
for _, session in ipairs(sessions_of(places, id)) do release(record_of(session), 'released: ' .. id .. ' left', id) end
call('HDEL', fleet, id)
call('HDEL', dropped, id)
call('ZREM', live, id)
call('ZREM', lost, id)
seen_workers[id], touched[id] = false, true
return done(1)

-- Purpose    Deletes what is left of an endpoint that the policies do not name any more, once nothing of it matters.
-- Guarantee  While an event waits for it, is leased, dead, kept or in its history, nothing is deleted. When it is given an
--            event again, it is noted again, as its counts are gone.
-- KEYS       1 the names of the partition's endpoints, then those of events.lua and partition.lua
-- ARGV       1 the endpoint
-- Return     1 deleted | 0 something is left
-- Twice      is the same as once.

local queue, leases, dead, history, kept = KEYS[6], KEYS[10], KEYS[13], KEYS[16], KEYS[20]
if redis.call('EXISTS', queue, leases, dead, history, kept) > 0 then return 0 end
local prefix = string.match(queue, '^(.*):queue$') .. ':'
for i = 6, #KEYS do
  if string.sub(KEYS[i], 1, #prefix) == prefix then redis.call('DEL', KEYS[i]) end
end
redis.call('SREM', KEYS[1], ARGV[1])
return 1

-- Purpose    After a backup was restored: ends the leases of an endpoint in a partition, whose holders are gone.
-- Guarantee  What was leased is due at once, no attempt counts as failed for it, and no token is given that may have been
--            given since.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 by how much the tokens go ahead
-- Return     how many leases there were
-- Twice      goes further ahead; there are no leases any more.

local streams = call('HKEYS', LEASES)
for _, stream in ipairs(streams) do
  call('HDEL', LEASES, stream)
  call('ZADD', lane(stream), 'XX', now, stream)
end
call('HINCRBY', COUNTS, 'token', ARGV[1])
return #streams

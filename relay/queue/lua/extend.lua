-- Purpose    Extends leases while what was leased is under way.
-- Guarantee  Only the holder of a stream's current token extends its lease.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 lease (ms) from now, then for each lease: token, one of its eids
-- Return     for each lease 1 extended | 0 it is another's by now, or over and settled
-- Twice      extends from the second time.

local extended = {}
for i = 2, #ARGV, 2 do
  local stream = split(ARGV[i + 1])
  local mine = is_owned_by(call('HGET', OWNERS, stream), ARGV[i])
  if mine then call('ZADD', lane(stream), 'XX', now + tonumber(ARGV[1]), stream) end
  extended[#extended + 1] = mine and 1 or 0
end
return extended

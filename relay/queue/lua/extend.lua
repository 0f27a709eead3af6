-- Purpose    Extends leases while what was leased is in flight.
-- Guarantee  Only the holder of a stream's current token extends its lease.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 lease (ms) from now, then for each lease: token, one of its entry ids
-- Return     for each lease 1 extended | 0 somebody else holds it by now, or it is over and settled
-- Twice      extends from the second time.

local extended = {}
for i = 2, #ARGV, 2 do
  local stream = split(ARGV[i + 1])
  local is_mine = is_held_by(call('HGET', LEASES, stream), ARGV[i])
  if is_mine then call('ZADD', lane(stream), 'XX', now + tonumber(ARGV[1]), stream) end
  extended[#extended + 1] = is_mine and 1 or 0
end
return extended

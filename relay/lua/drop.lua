-- Purpose    Erases dead letters for good.
-- Guarantee  Nothing that is not dead is touched.
-- KEYS       see partition.lua
-- ARGV       eids
-- Return     how many were erased
-- Twice      what is gone is left alone.

local dropped = 0
for _, eid in ipairs(ARGV) do
  if call('ZREM', DEAD, eid) == 1 then
    call('HDEL', REASONS, eid)
    erase(eid)
    dropped = dropped + 1
  end
end
if dropped > 0 then count('dropped', dropped) end
return dropped

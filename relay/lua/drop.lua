-- drop.lua: erases dead letters for good.
-- Guarantee: nothing that is not dead is touched. Running it twice: what is gone is left alone.
-- ARGV: eids
-- Return: how many were erased
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

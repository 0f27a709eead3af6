-- Purpose    Puts dead letters back into their streams.
-- Guarantee  They keep their sequence numbers, so they go before younger events of their stream; they start with no
--            attempt behind them and no longer expire.
-- KEYS       see events.lua and partition.lua
-- ARGV       eids
-- Return     how many were put back
-- Twice      what is no longer dead is left alone.

local replayed = 0
for _, eid in ipairs(ARGV) do
  if call('ZREM', DEAD, eid) == 1 then
    local stream = split(eid)
    call('HDEL', REASONS, eid)
    call('HDEL', ATTEMPTS, eid)
    call('HSET', ATTEMPTS, eid .. '\4', '1')
    call('ZADD', QUEUE, 0, eid)
    if call('HEXISTS', OWNERS, stream) == 0 then call('ZADD', lane(stream), now, stream) end
    replayed = replayed + 1
  end
end
if replayed > 0 then count('replayed', replayed) end
save_counts()
return replayed

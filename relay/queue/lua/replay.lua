-- Purpose    Puts dead letters back into their streams.
-- Guarantee  They keep their sequence numbers, so they go before younger events of their stream; their attempts
--            are counted from the start, and they no longer expire.
-- KEYS       see events.lua and partition.lua
-- ARGV       entry ids
-- Return     how many were put back
-- Twice      what is no longer dead is left alone.

local replayed = 0
for _, entry_id in ipairs(ARGV) do
  if call('ZREM', DEAD_LETTERS, entry_id) == 1 then
    local stream, _, id = split(entry_id)
    local size = call('HSTRLEN', EVENTS, id)
    count('bytes', size)
    count('dead_bytes', -size)
    call('HDEL', REASONS, entry_id)
    call('HDEL', ATTEMPTS, entry_id, entry_id .. FAILURES)
    call('HSET', ATTEMPTS, entry_id .. REPLAYED, '1')
    call('ZADD', QUEUE, 0, entry_id)
    if call('HEXISTS', LEASES, stream) == 0 then call('ZADD', lane(stream), now, stream) end
    replayed = replayed + 1
  end
end
if replayed > 0 then count('replayed', replayed) end
save_counts()
return replayed

-- Purpose    Puts dead letters back into their streams.
-- Guarantee  They keep their sequence numbers, so they go before younger events of their stream; they start with no
--            attempt behind them and no longer expire.
-- KEYS       see partition.lua
-- ARGV       eids
-- Return     how many were put back
-- Twice      what is no longer dead is left alone.

local replayed = 0
for _, eid in ipairs(ARGV) do
  if call('ZREM', DEAD, eid) == 1 then
    local stream = string.sub(eid, 1, string.find(eid, '\0', 1, true) - 1)
    local record = call('HGET', EVENTS, eid)
    local _, _, keep, at = parse(record)
    local fresh = string.format('%d 0 %d\n', now, #keep) .. keep .. string.sub(record, at)
    count('bytes', #fresh - #record)
    call('HSET', EVENTS, eid, fresh)
    call('HDEL', REASONS, eid)
    call('ZADD', QUEUE, 0, eid)
    if call('HEXISTS', OWNERS, stream) == 0 then call('ZADD', lane(stream), now, stream) end
    replayed = replayed + 1
  end
end
if replayed > 0 then count('replayed', replayed) end
return replayed

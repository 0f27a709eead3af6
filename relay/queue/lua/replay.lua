-- Purpose    Puts dead letters back into their streams.
-- Guarantee  They keep their sequence numbers, so they go before younger events of their stream; where order is kept that
--            is the one of their session, in whatever form they died. Their attempts are counted from the start, and they
--            no longer expire.
-- KEYS       see events.lua and partition.lua
-- ARGV       entry ids
-- Return     how many were put back
-- Twice      what is no longer dead is left alone.

local replayed, keeps_order = 0, call('HGET', COUNTS, 'order') ~= 'none'
for _, entry_id in ipairs(ARGV) do
  if call('ZREM', DEAD_LETTERS, entry_id) == 1 then
    local _, _, id = split(entry_id)
    local record = call('HGET', EVENTS, id)
    local waits_as = record and keeps_order and in_session_form(entry_id, record) or entry_id
    local stream = split(waits_as)
    count('bytes', record and #record or 0)
    count('dead_bytes', record and -#record or 0)
    call('HDEL', REASONS, entry_id)
    call('HDEL', ATTEMPTS, entry_id, entry_id .. FAILURES)
    local attempt_log = waits_as ~= entry_id and call('HGET', ATTEMPTS, entry_id .. LOG)
    if attempt_log then
      call('HDEL', ATTEMPTS, entry_id .. LOG)
      call('HSET', ATTEMPTS, waits_as .. LOG, attempt_log)
    end
    call('HSET', ATTEMPTS, waits_as .. REPLAYED, '1')
    call('ZADD', QUEUE, 0, waits_as)
    if call('HEXISTS', LEASES, stream) == 0 then call('ZADD', lane(stream), now, stream) end
    replayed = replayed + 1
  end
end
if replayed > 0 then count('replayed', replayed) end
save_counts()
return replayed

-- Purpose    Makes one stream due now: of those that wait for the end of a backoff the one that would be due first.
-- Guarantee  A lease and a delay of the event itself stay as they are; the order within the stream does, too.
-- KEYS       see events.lua and partition.lua
-- ARGV       none
-- Return     the entry id that is due now, or nil: nothing waits that may be sent
-- Twice      finds the same one.

local MOST = 100  -- streams that are looked at in each lane

for _, letter in ipairs(LANES) do
  for _, stream in ipairs(call('ZRANGE', SCHEDULE[letter], 0, MOST - 1)) do
    local entry_id = call('HEXISTS', LEASES, stream) == 0 and first_of(stream, 1)[1]
    local record = entry_id and call('HGET', EVENTS, sub(entry_id, #stream + ID_AT))
    if record and parse_due(record) <= now then
      call('ZADD', SCHEDULE[letter], 'LT', now, stream)
      return entry_id
    end
  end
end
return nil

-- Purpose    Reads events without their bodies, which may be large: for lists.
-- Guarantee  Changes nothing, and reads no more than a bounded number of bytes in one call.
-- KEYS       1 events (events.lua), or bodies (partition.lua)
-- ARGV       1 how many bytes of records are read at most, but for the first  then event ids
-- Return     for each event, as far as that reaches: what stands in its record before the body, bytes of its body
--            ('', 0: there is none)
-- Twice      is the same as once.

local heads, bytes = {}, 0
for i = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if i > 2 and bytes > tonumber(ARGV[1]) then break end
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  local body = 1
  if record then
    local length, content = string.match(record, '^[^\n]* (%d+)\n()')
    body = string.find(record, '\n', content + length, true) + 1
  end
  heads[#heads + 1] = record and string.sub(record, 1, body - 1) or ''
  heads[#heads + 1] = record and #record - body + 1 or 0
end
return heads

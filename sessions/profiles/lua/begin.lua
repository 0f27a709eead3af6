-- Purpose    A number for a new generation, or for one that is sealed anew: what is written of it lies under this number
--            before it counts.
-- Guarantee  No number is given twice.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence; '': whoever has the session keeps it, and is not disturbed
-- Return     number | 'stale': a later start has it | 'deleted': its login was, since this start
-- Twice      gives a second number; what was written under the first is swept once a later one counts.

local record = record_of(ARGV[1])
local fence = tonumber(ARGV[2])
if fence then
  local why = refused(record, fence)
  if why then return why end
  record.fence = fence
end
record.begun, record.begun_at = record.begun + 1, now
save(ARGV[1], record)
return record.begun

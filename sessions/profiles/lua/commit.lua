-- Purpose    A generation that is written whole, and was read back, counts from now on.
-- Guarantee  One step: before it the one before is the newest, after it this one. What is dropped for it is told, and may
--            be erased then; what anybody else writes is not touched. The first one after a logout is a new login: those
--            before it are of no use.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence  3 how many generations to keep  4... its values, as GENERATION, but for fence and made
-- Return     {numbers that are kept no more} | 'stale' | 'deleted'
-- Twice      the second one finds it, and tells nothing to drop.

local record = record_of(ARGV[1])
local fence, keep = tonumber(ARGV[2]), tonumber(ARGV[3])
if fence < record.fence then return 'stale' end
if fence <= record.gone then return 'deleted' end
local number, generations = tonumber(ARGV[4]), record.generations
if #generations > 0 and generations[#generations][1] >= number then
  return generations[#generations][1] == number and {} or 'stale'
end
table.insert(generations, {
  number, fence, now, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10], ARGV[11],
})
local dropped = {}
if record.deleted > 0 then keep, record.deleted = 1, 0 end
while #generations > keep do table.insert(dropped, table.remove(generations, 1)[1]) end
record.fence, record.begun = fence, math.max(record.begun, number)
save(ARGV[1], record)
return dropped

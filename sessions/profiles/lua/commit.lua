-- Purpose    A generation that is written whole, and was read back, counts from now on.
-- Guarantee  One step: before it the one before is the newest, after it this one. What it shares with the one that it builds
--            on is there, as that one is kept. Of those that are too many the oldest go (`trim`). The first one after a
--            logout is a new login: those before it are of no use.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence  3 how many generations to keep  4 the number of the one it builds on, 0: on none
--            5 under which number that one lies  6... its values, as GENERATION, but for fence, made and under
-- Return     {numbers that are kept no more} | 'stale' | 'deleted' | 'moved': what it builds on is not kept as it was
-- Twice      the second one finds it, and tells nothing to drop.

local record = record_of(ARGV[1])
local fence, keep, number = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
local why = refused(record, fence)
if why then return why end
local generations = record.generations
if #generations > 0 and generations[#generations][1] == number then return {} end
if number <= record.settled then return 'stale' end
if not is_kept(record, tonumber(ARGV[4]), tonumber(ARGV[5])) then return 'moved' end

local dropped = {}
if record.deleted > 0 then
  for _, generation in ipairs(generations) do table.insert(dropped, generation[1]) end
  record.generations, record.deleted = {}, 0
end
table.insert(record.generations, {
  number, fence, now, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10], ARGV[11], ARGV[12], ARGV[13], number,
})
for _, one in ipairs(trim(record, keep)) do table.insert(dropped, one) end
record.fence, record.begun, record.settled = fence, math.max(record.begun, number), number
save(ARGV[1], record)
return dropped

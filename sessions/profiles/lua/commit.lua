-- Purpose    A generation that is written whole, and was read back, counts from now on.
-- Guarantee  One step: before it the one before is the newest, after it this one. What it shares with the one that it builds
--            on is there, as that one is kept. Of those that are too many the oldest go; but one of which all newer ones
--            have less than a quarter is kept beside them, as the newer ones may be a failure. The first one after a
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
local base, under = tonumber(ARGV[4]), tonumber(ARGV[5])
local is_there = base == 0
for _, generation in ipairs(generations) do
  is_there = is_there or (generation[1] == base and generation[11] == under)
end
if not is_there then return 'moved' end

table.insert(generations, {
  number, fence, now, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10], ARGV[11], ARGV[12], ARGV[13], number,
})
local left, dropped, largest = {}, {}, 0
for i = #generations, 1, -1 do
  local generation = generations[i]
  local is_newest = i == #generations
  local is_last_good = not is_newest and generation[4] > 4 * largest and record.deleted == 0
  if is_newest or is_last_good or (keep > 1 and record.deleted == 0) then
    table.insert(left, 1, generation)
    if not is_newest and not is_last_good then keep = keep - 1 end
  else
    table.insert(dropped, 1, generation[1])
  end
  largest = math.max(largest, generation[4])
end
record.generations, record.deleted, record.fence = left, 0, fence
record.begun, record.settled = math.max(record.begun, number), number
save(ARGV[1], record)
return dropped

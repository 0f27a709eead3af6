-- Purpose    Generations of a session are kept no more.
-- Guarantee  Never the last one of a session that is not deleted. With ARGV[2] only of one that has been
--            deleted for so long.
-- KEYS       see generations.lua
-- ARGV       1 session  2 deleted for so many ms; '': or not deleted at all  3... numbers
-- Return     {numbers that are kept no more}
-- Twice      the second one finds nothing.

local record, known = record_of(ARGV[1])
local age = tonumber(ARGV[2])
if not known or (age and (record.deleted == 0 or record.deleted > now - age)) then return {} end
local meant, dropped, left = {}, {}, {}
for i = 3, #ARGV do meant[tonumber(ARGV[i])] = true end
for i, generation in ipairs(record.generations) do
  local last = i == #record.generations and #left == 0 and record.deleted == 0
  if meant[generation[1]] and not last then table.insert(dropped, generation[1])
  else table.insert(left, generation) end
end
record.generations = left
save(ARGV[1], record)
return dropped

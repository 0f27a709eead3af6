-- Purpose    Generations of a session are kept no more: all of a deleted one, or those that a person names.
-- Guarantee  Never the last one of a session that is not deleted, unless ARGV[2] is '1'.
-- KEYS       see generations.lua
-- ARGV       1 session  2 '1': the whole session, for good  3... numbers
-- Return     {numbers that are kept no more}
-- Twice      the second one finds nothing.

local record, known = record_of(ARGV[1])
if not known then return {} end
local meant, dropped, left = {}, {}, {}
for i = 3, #ARGV do meant[tonumber(ARGV[i])] = true end
for i, generation in ipairs(record.generations) do
  local last = i == #record.generations and #left == 0 and record.deleted == 0
  if ARGV[2] == '1' or (meant[generation[1]] and not last) then table.insert(dropped, generation[1])
  else table.insert(left, generation) end
end
if ARGV[2] == '1' then
  call('HDEL', profiles, ARGV[1])
else
  record.generations = left
  save(ARGV[1], record)
end
return dropped

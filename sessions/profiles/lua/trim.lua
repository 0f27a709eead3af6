-- Purpose    Generations beyond those that are to be kept go, as after fewer are to be kept than before.
-- Guarantee  As of `trim`; never the newest one, and nothing of a deleted session.
-- KEYS       see generations.lua
-- ARGV       1 session  2 how many to keep  3 '1': only say which
-- Return     {numbers that are kept no more}
-- Twice      the second one finds nothing.

local record, known = record_of(ARGV[1])
if not known then return {} end
local dropped = trim(record, math.max(1, tonumber(ARGV[2])))
if #dropped > 0 and ARGV[3] ~= '1' then save(ARGV[1], record) end
return dropped

-- Purpose    What was begun long ago and never counted will not count any more, so that what is written of it may be erased.
-- Guarantee  Whoever is still at it is told 'stale' when he commits. Nothing that counts is touched.
-- KEYS       see generations.lua
-- ARGV       1 session  2 begun so many ms ago; '': whenever
-- Return     1, or 0: nothing is so old
-- Twice      the second one finds nothing.

local record, known = record_of(ARGV[1])
local age = tonumber(ARGV[2])
if not known or record.settled >= record.begun or (age and record.begun_at > now - age) then return 0 end
record.settled = record.begun
save(ARGV[1], record)
return 1

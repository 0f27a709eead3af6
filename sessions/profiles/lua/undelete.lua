-- Purpose    By a person: a deletion is taken back, as long as there is something to go back to.
-- Guarantee  The generations are as they were. What was begun before the deletion is still not saved.
-- KEYS       see generations.lua
-- ARGV       1 session
-- Return     1, or 0: it is not deleted, or nothing is left of it
-- Twice      the second one finds it undeleted.

local record, known = record_of(ARGV[1])
if not known or record.deleted == 0 or #record.generations == 0 then return 0 end
record.deleted, record.fence = 0, next_fence()
save(ARGV[1], record)
return 1

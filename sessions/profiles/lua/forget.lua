-- Purpose    The record of a deleted session goes, after all that it named: it ends with nothing left.
-- Guarantee  What was begun before the deletion is still not saved, also without the record.
-- KEYS       see generations.lua
-- ARGV       1 session
-- Return     1, or 0: it is not deleted, or something is left of it, or is being written
-- Twice      the second one finds none.

local record, known = record_of(ARGV[1])
if not known or record.deleted == 0 or #record.generations > 0 or record.settled < record.begun then return 0 end
if record.gone > tonumber(call('GET', forgotten) or 0) then call('SET', forgotten, digits(record.gone)) end
call('HDEL', profiles, ARGV[1])
return 1

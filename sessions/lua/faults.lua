-- Purpose    Some of the sessions that are not well, for people.
-- Guarantee  Each as of this moment. Costs as much as it answers; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 how many at most
-- Return     {session, its fault, …}
-- Twice      is a second look, which may answer others.

local found = call('EXISTS', faults) == 1 and call('HRANDFIELD', faults, ARGV[1], 'WITHVALUES') or {}
return found

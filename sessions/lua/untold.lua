-- Purpose    What Laravel is still to be told of faults, the oldest first; and what it was told by now.
-- Guarantee  A line stays until it was told.
-- KEYS       see prelude.lua
-- ARGV       1 how many at most  then each line that was told
-- Return     {line, …}
-- Twice      the second one finds them gone.

for i = 2, #ARGV do call('LREM', untold, 1, ARGV[i]) end
if tonumber(ARGV[1]) < 1 then return {} end
return call('LRANGE', untold, 0, ARGV[1] - 1)

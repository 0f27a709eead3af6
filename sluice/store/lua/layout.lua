-- Purpose    Notes which layout of the keys a process writes that starts, and says which there was.
-- Guarantee  What is noted never gets lower, and grows by one at a time only: who cannot read it leaves it alone.
-- KEYS       1 the note
-- ARGV       1 the layout of whoever starts
-- Return     the layout that there was; that of whoever starts, where there was none
-- Twice      says the new one.

local mine = tonumber(ARGV[1])
local found = tonumber(call('GET', KEYS[1])) or 0
if found == 0 or found == mine - 1 then
  call('SET', KEYS[1], mine)
end
return found == 0 and mine or found

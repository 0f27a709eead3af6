-- Purpose    Tells the time of a slot, to whoever knows how long it is since the last time it was told.
-- Guarantee  It is what any script in this slot is given at this moment, and not before what is said here: so the time
--            makes up for what it may have lost when the store's clock was set (clock.lua).
-- KEYS       1 any key of the slot; it is not touched
-- ARGV       1 the time that it is at least (ms); 0: not known
-- Return     {ms since 1970, how many of these the time is ahead of the store's own clock}
-- Twice      is a second look.

local lost = ARGV[1] - now
if lost > 0 then
  now, offset = now + lost, offset + lost
  call('SET', KEYS[#KEYS], string.format('%d %d', now - offset, offset))
end
return {now, offset}

-- Purpose    Tells the time of a slot.
-- Guarantee  It is what any script in this slot is given at this moment.
-- KEYS       1 any key of the slot; it is not touched
-- ARGV       none
-- Return     {ms since 1970, how many of these the time is ahead of the store's own clock}
-- Twice      is a second look.

return {now, ahead}

-- Purpose    Asks for one attempt, whatever the state of the circuit, because a person wants to see what comes of it.
-- Guarantee  One at a time: a newer request takes the place of one that has not begun.
-- KEYS       1 HASH, see circuit.lua
-- ARGV       1 for how long it may still begin (ms)
-- Return     its number
-- Twice      asks for another one, under another number.

local number = call('HINCRBY', KEYS[1], 'probes', 1)
call('HSET', KEYS[1], 'probe', string.format('%d %d 0', number, now + ARGV[1]))
return number

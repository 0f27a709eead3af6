-- Purpose    Notes that a send has certainly not reached the worker that was asked, or that nobody can be asked.
-- Guarantee  It may be given to a worker again, unless it was given to one in another attempt, of which nobody knows the end.
-- KEYS       1 HASH, what is known of one send (hand_over.lua)
-- ARGV       1 ms that this is kept  2 the attempt in which that was: a note of another one stays
-- Return     ms since when nobody can be asked
-- Twice      is the same as once.

local handed = call('HGET', KEYS[1], 'handed')
if handed and string.match(handed, '^%Z*%z%Z*%z%Z*%z(%Z*)') == ARGV[2] then call('HDEL', KEYS[1], 'handed') end
call('HSETNX', KEYS[1], 'stuck', string.format('%d', now))
call('PEXPIRE', KEYS[1], ARGV[1] + offset)
return math.max(0, now - call('HGET', KEYS[1], 'stuck'))

-- Purpose    Decides what the caller of a send is told who waits no longer.
-- Guarantee  He is told our id, or gets the worker's answer, and every caller of the same send hears the same.
-- KEYS       1 HASH, what is known of one send (hand_over.lua)
-- ARGV       1 ms that the promise is kept
-- Return     what its callers get; empty: our id
-- Twice      is the same as once.

local found = call('HMGET', KEYS[1], 'answer', 'promised')
if found[2] then return '' end
if found[1] then return found[1] end
call('HSET', KEYS[1], 'promised', '1')
call('PEXPIRE', KEYS[1], ARGV[1] + offset)
return ''

-- Purpose    The POST of a suspect begins: should its lease end from now on, one more holder has ended on it.
-- Guarantee  Only the holder of its stream's current token notes that.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 token  2 entry id  3 the crash count at which it becomes a dead letter
-- Return     1 noted | 0 somebody else holds its lease by now, or it is over and settled
-- Twice      changes nothing the second time.

local entry_id = ARGV[2]
local stream = split(entry_id)
if not is_held_by(call('HGET', LEASES, stream), ARGV[1]) then return 0 end
call('HSET', ATTEMPTS, entry_id .. CRASHES, ARGV[3])
return 1

-- Purpose    Nothing has changed since the newest generation: it was made now, and none is pushed out for it.
-- Guarantee  Only its time changes, and only where it is still the newest of a session that is not deleted.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence  3 number  4 under which number it lies
-- Return     1 | 0: it is not the newest any more | 'stale' | 'deleted'
-- Twice      the time of the second one stands.

local record = record_of(ARGV[1])
local fence = tonumber(ARGV[2])
local why = refused(record, fence)
if why then return why end
local newest = record.generations[#record.generations]
if not newest or newest[1] ~= tonumber(ARGV[3]) or newest[11] ~= tonumber(ARGV[4]) or record.deleted > 0 then return 0 end
newest[3], record.fence = now, fence
save(ARGV[1], record)
return 1

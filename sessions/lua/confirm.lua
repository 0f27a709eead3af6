-- Purpose    The worker has accepted: the place that was held for a session becomes ownership.
-- Guarantee  Only under the fence of that place, and not of a session that was forgotten or ended meanwhile. What is known
--            about the session by then is kept.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 fence  3 who asks
-- Return     1; 0 when it is not held, or under another fence
-- Twice      the second one finds it done.

local record = record_of(ARGV[1])
if not record or record.worker == '' or record.fence ~= tonumber(ARGV[2]) then return 0 end
if record.leaving == '!' or (record.reserved == 0 and record.ended ~= '') then return 0 end
if record.reserved == 1 then accept(record, ARGV[3]) end
return done(1)

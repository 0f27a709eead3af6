-- Purpose    The worker has refused: the place that was held for a session is given back.
-- Guarantee  As if nothing had been; a session that was known before keeps its record and its last owner. While another
--            request waits for the same place, it stays held. One that was accepted meanwhile stays.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 fence  3 who asks
-- Return     1; 0 when it is not held, or under another fence, or accepted
-- Twice      gives back another request's claim, if there is one: the place may then be gone before that is answered.

local record = record_of(ARGV[1])
if not record or record.reserved == 0 or record.fence ~= tonumber(ARGV[2]) then return 0 end
record.claims = record.claims - 1
if record.claims > 0 then save(record) else undo(record, ARGV[3]) end
return done(1)

-- Purpose    An existing worker has answered what it was asked: to restart a session.
-- Guarantee  From now on it may be asked again, and its creates are no longer held.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 what came of it, on one line  3 who asked
-- Return     nothing
-- Twice      notes it twice.

local record = record_of(ARGV[1])
if not record then return end
local found = activity_of(record.session)
found.restarting = 0
save_activity(record.session, found)
note(record, ARGV[2], ARGV[3])
save(record)
done()

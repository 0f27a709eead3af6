-- Purpose    A person takes back that a session was ended.
-- Guarantee  It waits for a worker as before: one of ours is granted it, an existing one has to be asked to create it.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 who asks
-- Return     0: it is not known, or not ended; 1
-- Twice      the second one finds it wanted.

local record = record_of(ARGV[1])
if not record or record.ended == '' or record.ended == 'purging' or record.leaving == '!' then return 0 end
revive(record)
if record.leaving == '-' then record.leaving = '*' end -- its worker is stopping it already
if record.worker == '' then record.lost = now end
record.since, record.reason = now, ''
note(record, 'restored', ARGV[2])
save(record)
announce(record, record.worker)
return done(1)

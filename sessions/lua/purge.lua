-- Purpose    A session that was ended long ago is forgotten, with its profile: it is marked, then whoever purges it erases the
--            profile, then it is forgotten.
-- Guarantee  Only one that is still ended as it was found. From the mark on it cannot be restored or created, until it is
--            forgotten; a crash in between leaves the mark, and the next purge finds it.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 since when it was ended (ms)  3 '1': its profile is erased; else it is to be marked
-- Return     1, or 0: it is not ended, or not since then
-- Twice      marks it again; the second forgetting finds nothing.

local record = record_of(ARGV[1])
if not record or record.ended == '' or record.worker ~= '' or record.since ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '1' then
  if record.ended ~= 'purging' then return 0 end
  forget(record)
else
  record.ended = 'purging'
  save(record)
end
return done(1)

-- Purpose    Laravel's list of accounts has these sessions: those that nobody has are wanted still.
-- Guarantee  Nothing but that moment is changed, and of nobody else.
-- KEYS       see prelude.lua
-- ARGV       sessions
-- Return     of how many it was noted
-- Twice      notes a moment later.

local noted = 0
for _, session in ipairs(ARGV) do
  local record = record_of(session)
  if record and record.worker == '' and record.ended == '' then
    record.asked = now
    save(record)
    noted = noted + 1
  end
end
return done(noted)

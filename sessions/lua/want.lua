-- Purpose    Sessions that should run, wherever there is capacity; or, of the first division, on a worker that is named.
-- Guarantee  One that is known already keeps its owner and what is known about it.
-- KEYS       see prelude.lua
-- ARGV       1 who asks  then per session: session, what is known about it (JSON), its workspace, the existing worker on which
--            its login lies or ''
-- Return     how many were new
-- Twice      the second one adds nothing.

local new = 0
for i = 2, #ARGV, 4 do
  local session, at = ARGV[i], ARGV[i + 3]
  if call('HEXISTS', records, session) == 0 then
    local record = new_record(session, ARGV[i + 1], ARGV[i + 2])
    record.lost = now
    if at ~= '' then record.last, record.existing = at, 1 end
    note(record, at == '' and 'wanted' or 'assigned to ' .. at, ARGV[1])
    save(record)
    announce(record, '')
    new = new + 1
  end
end
return done(new)

-- Purpose    A person sends a session to another worker, or lets anybody have it.
-- Guarantee  A worker of ours that may still run it stops it first, and only then it is granted. A session whose login lies on
--            an existing worker that runs it stays there: nobody can tell that one to stop.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 worker, or '*': anybody  3 who asks
-- Return     {'unknown'}; {'ended', why}; {'no worker'}: no such worker; {'runs', worker}: an existing one that runs it; else
--            {'moved', the worker that it leaves or '', is that an existing one, '1': it stops it first}
-- Twice      the second one finds it on its way, or there.

local record, to = record_of(ARGV[1]), ARGV[2]
if not record or record.leaving == '!' or record.fresh == 1 then return {'unknown'} end
if record.ended ~= '' then return {'ended', record.reason} end
local target = to ~= '*' and worker_of(to)
if to ~= '*' and not target then return {'no worker'} end
local from = record.worker ~= '' and record.worker or record.last
local existing = record.existing
if record.worker ~= '' and record.reserved == 0 and left_of(record.worker) > 0 then
  if record.worker == to then return {'moved', from, existing, '0'} end
  if existing == 1 and record.missing == 0 then return {'runs', record.worker} end
  if existing == 0 then
    record.leaving = to
    note(record, to == '*' and 'to leave ' .. from or 'to move to ' .. to, ARGV[3])
    save(record)
    announce(record, from)
    return done({'moved', from, existing, '1'})
  end
end
if record.reserved == 1 then return {'runs', record.worker} end
local before = record.worker
settle(record)
record.worker, record.last, record.lost, record.since, record.avoid = '', '', now, now, ''
record.existing = target and target.existing or 0
if target and target.existing == 1 then record.last = to end
note(record, target and 'moved to ' .. to or 'released', ARGV[3])
if target and target.existing == 0 and has_room(to) then
  grant(record, to, 'granted to', ARGV[3], before)
else
  save(record)
  announce(record, before)
end
return done({'moved', from, existing, '0'})

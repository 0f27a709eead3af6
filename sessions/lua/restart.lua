-- Purpose    A session is restarted where it runs, with its login.
-- Guarantee  One at a time, not while a send is in flight, and not more often than ARGV[3] in ARGV[4], whoever asks. A worker of
--            ours stops what it runs under the old fence, and only then starts it under the new one. An existing worker is
--            asked by whoever this answers 'ask', and nobody else is told so for ARGV[7].
-- KEYS       see prelude.lua
-- ARGV       1 session  2 who asks  3 the most restarts, 0: any number  4 in how many milliseconds  5 state that it must have;
--            '': any  6 since when (ms)  7 ms for which an existing worker may take  8 ms in which a send that was seen counts as
--            in flight
-- Return     'unknown'; 'unowned': nobody runs it, or it is on its way; 'changed'; 'sending'; 'restarting'; 'limited';
--            {'restarted', worker}; {'ask', worker}
-- Twice      finds it restarted, and says 'changed' or 'restarting'; a person's second one restarts it again.

local record = record_of(ARGV[1])
if not record or record.leaving == '!' or record.fresh == 1 then return 'unknown' end
if not owns(record) or record.leaving ~= '' or record.missing > 0 then return 'unowned' end
if ARGV[5] ~= '' and (record.state ~= ARGV[5] or record.since ~= tonumber(ARGV[6])) then return 'changed' end
local found = activity_of(record.session)
if found.restarting > now then return 'restarting' end
if found.sending > now - ARGV[8] then return 'sending' end
local lately = 0
for one in string.gmatch(found.restarts, '%d+') do
  if tonumber(one) > now - ARGV[4] then lately = lately + 1 end
end
if tonumber(ARGV[3]) > 0 and lately >= tonumber(ARGV[3]) then return 'limited' end
found.restarts = with_now(found.restarts)
if record.existing == 1 then
  found.restarting = now + ARGV[7]
  save_activity(record.session, found)
  note(record, record.worker .. ' is asked to restart it', ARGV[2])
  save(record)
  return done({'ask', record.worker})
end
save_activity(record.session, found)
record.state, record.reason = 'starting', ''
grant(record, record.worker, 'restarted at', ARGV[2], record.worker)
return done({'restarted', record.worker})

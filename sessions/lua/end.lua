-- Purpose    A session is kept, and nobody runs it any more, until it is created again or restored.
-- Guarantee  Only as it was when that was decided (ARGV[5], ARGV[6]): one that has changed meanwhile is left alone. A worker of
--            ours that runs it stops it first. One that an existing worker runs is ended only when that was told to close it; who
--            asks without having told it is about to, so from then on it ends, too, where that worker lists it no more
--            (observe.lua): whoever tells it may be killed in between.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 why: 'superseded' or 'deleted'  3 in favour of which session; '': none  4 who asks
--            5 the state that it must have; '': any  6 since when (ms); '': any  7 '1': its existing worker has closed it
--            8 '1': only where nobody has it
-- Return     'unknown'; 'changed': it is otherwise than expected, or is just being created; {'runs', worker}: an existing one;
--            {'ended', the worker that it leaves or '', '1': that one stops it first}
-- Twice      finds it ended, and says so.

local record, why = record_of(ARGV[1]), ARGV[2]
if not record or record.leaving == '!' or record.fresh == 1 then return 'unknown' end
if record.ended ~= '' then return {'ended', record.worker, record.leaving == '-' and '1' or '0'} end
if record.reserved == 1 or (ARGV[5] ~= '' and record.state ~= ARGV[5])
   or (ARGV[6] ~= '' and record.since ~= tonumber(ARGV[6])) then return 'changed' end
local runs = record.worker ~= '' and record.missing == 0 and left_of(record.worker) > 0
if runs and ARGV[8] == '1' then return 'changed' end
if runs and record.existing == 1 and ARGV[7] ~= '1' then
  record.closing = {digits(now), why, ARGV[3], ARGV[4]}
  save(record)
  return done({'runs', record.worker})
end
local from = record.worker
finish(record, why, ARGV[3], ARGV[4])
return done({'ended', from, record.leaving == '-' and '1' or '0'})

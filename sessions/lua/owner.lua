-- Purpose    Who runs this session?
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 session
-- Return     nil when it is not known, or ended; {'owner', …} as in prelude.lua; else {'unowned', last owner, its URL, is it an existing
--            worker, milliseconds that it is live, state, since when nobody has it, live worker where a place is held for it or ''}
-- Twice      is a second look.

local record = record_of(ARGV[1])
if not record or record.leaving == '!' or record.ended ~= '' then return false end
if owns(record) then return owner_in(record) end
local holds = record.worker ~= '' and record.reserved == 0
local last = holds and record.worker or record.last
local worker = last ~= '' and worker_of(last)
local since = holds and tonumber(call('ZSCORE', live, last) or now) or record.lost
return {'unowned', last, worker and worker.url or '', record.existing, last ~= '' and left_of(last) or 0, record.state,
        digits(since), record.reserved == 1 and left_of(record.worker) > 0 and record.worker or ''}

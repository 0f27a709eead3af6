-- Purpose    Sessions, for people: a page of them, or one that is named.
-- Guarantee  Each row as of one moment; who asks page after page gets every session that is there all the while. Reads
--            only. Costs as much as it looks at.
-- KEYS       see prelude.lua
-- ARGV       1 where to go on ('0': the beginning); '': the session that is named  2 about how many to look at
--            3 '1': only those of the workspace  4 workspace  5 session
-- Return     {now, where to go on ('0': that was all), {session, about (JSON), workspace, state, phone, reason, since, worker,
--             url, existing, fence, milliseconds left, last owner, lost since, missing since, ended, rival, asked for, its activity
--             or '', its fault or '', …}, changes of the named one}
-- Twice      is a second look.

local go_on, found = '0', {}
if ARGV[1] == '' then
  local packed = call('HGET', records, ARGV[5])
  if packed then found = {ARGV[5], packed} end
else
  go_on, found = unpack(call('HSCAN', records, ARGV[1], 'COUNT', ARGV[2]))
end

local rows = {}
for i = 1, #found, 2 do
  local record = opened(found[i], found[i + 1])
  local shown = record.fresh == 0 and record.leaving ~= '!' and (ARGV[3] ~= '1' or record.workspace == ARGV[4])
  if shown then
    local owned = owns(record)
    local holder = owned and worker_of(record.worker)
    local last = record.reserved == 0 and record.worker ~= '' and record.worker or record.last
    local lost_since = not owned and record.worker ~= '' and record.reserved == 0 and call('ZSCORE', live, record.worker)
    for _, value in ipairs({
      record.session, record.about, record.workspace, record.state, record.phone, record.reason, digits(record.since),
      owned and record.worker or '', owned and holder.url or '', record.existing, digits(record.fence),
      owned and left_of(record.worker) or 0, last, digits(lost_since or record.lost), digits(record.missing),
      record.ended, record.rival, digits(record.asked), call('HGET', activity, record.session) or '',
      call('HGET', faults, record.session) or '',
    }) do table.insert(rows, value) end
  end
end
return {now, go_on, rows, ARGV[1] == '' and call('HGET', history, ARGV[5]) or ''}

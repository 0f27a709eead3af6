-- Purpose    Holds a place for a session while a worker decides whether it creates it.
-- Guarantee  A session that somebody has stays where it is; one that is being created is joined. One whose login lies on an
--            existing worker goes there only; where profiles are shared, unless that worker is away: while it is not, it may
--            start the session by itself. Never more than the capacity of the worker that was chosen; where a session was
--            last, it goes in any case. A new fence. What was known before is kept for `cancel`. One that was ended is wanted
--            again when its worker has accepted. The cleaner is to look at what else has had its phone.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 what is known about it (JSON)  3 its workspace  4 worker that was chosen; '': none yet
--            5 its instance  6 the most sessions it may hold by now; else the choice is made again; -1: any
--            7 milliseconds for which a place is held  8 '1': profiles are shared  9 who asks
-- Return     {'owner', …} as in prelude.lua; {'reserved', worker, url, fence, existing, did another hold it, was it there last};
--            {'away', worker};
--            {'purging'}; or
--            {'choose', live workers, places that are held, avoid, {worker, instance, held, capacity, of the workspace, …}}
-- Twice      joins the place that the first one holds: it then takes a second `cancel` to give it back, or its end.

local CANDIDATES = 16
local session, about, workspace, chosen, who = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[9]
local record = record_of(session)

local function answer()
  local worker = worker_of(record.worker)
  return {'reserved', record.worker, worker.url, digits(record.fence), worker.existing, record.claims > 1 and 1 or 0,
          record.last == record.worker and 1 or 0}
end

local function hold(id)
  if record then
    record.before = {record.about, record.workspace}
    if about ~= '{}' then record.about, record.workspace = about, workspace end
    record.asked = now
    look_at_phone(record)
  else
    record = new_record(session, about, workspace)
    record.fresh = 1
  end
  record.worker, record.fence, record.reserved, record.claims = id, next_fence(), 1, 1
  call('ZADD', reserved, digits(now + ARGV[7]), session)
  note(record, 'reserved at ' .. id, who)
  save(record)
  return done(answer())
end

if record then
  if record.leaving == '!' then
    if left_of(record.worker) > 0 then return {'away', record.worker} end
    forget(record)
    record = nil
  elseif record.ended == 'purging' then
    return {'purging'}
  elseif record.leaving == '-' and left_of(record.worker) > 0 then
    return {'away', record.worker}
  elseif record.reserved == 1 then
    if left_of(record.worker) > 0 then
      record.claims = record.claims + 1
      save(record)
      return done(answer())
    end
    undo(record, who)
    record = record_of(session)
  elseif record.worker ~= '' and left_of(record.worker) == 0 then
    release(record, 'lost: ' .. record.worker .. ' does not answer', record.worker, tonumber(call('ZSCORE', live, record.worker)))
  end
end
if record and owns(record) then return done(owner_in(record)) end
if record and record.existing == 1 and record.last ~= '' then
  if left_of(record.last) > 0 then return hold(record.last) end
  local starts = tonumber(call('ZSCORE', starting, record.last) or 0) > now
  if starts or ARGV[8] ~= '1' then return done({'away', record.last}) end
end
if chosen ~= '' and is_current(chosen, ARGV[5]) and has_room(chosen)
   and (ARGV[6] == '-1' or taken_by(chosen) <= tonumber(ARGV[6])) then
  return hold(chosen)
end

local found = {}
for _, index in ipairs({room, room_existing}) do
  for _, id in ipairs(call('ZRANGE', index, 0, CANDIDATES - 1)) do
    local worker = worker_of(id)
    if has_room(id) then
      local from, to = range_of(prefix_of(id, workspace))
      local alike = workspace ~= '' and call('ZLEXCOUNT', places, from, to) or 0
      for _, value in ipairs({id, worker.instance, taken_by(id), worker.capacity, alike}) do table.insert(found, value) end
    else touched[id] = true end
  end
end
return done({'choose', call('ZCOUNT', live, '(' .. digits(now), '+inf'), call('ZCARD', reserved),
             record and record.avoid or '', found})

-- Shared by every script of sessions/registry.py, which passes the same keys to all of them:
--
-- KEYS[1] records           HASH    session -> its record, packed: FIELDS below; a session is known while it stands here
-- KEYS[2] fleet             HASH    worker -> what is known of it, packed: WORKER_FIELDS below
-- KEYS[3] live              ZSET    live worker -> when it stops being live
-- KEYS[4] places            ZSET    "<worker> <workspace> <session>", all scores 0: who holds what, found by prefix
-- KEYS[5] waiting           ZSET    the same of sessions that nobody has and whose login lies on an existing worker
-- KEYS[6] orphans           ZSET    session that nobody has, for workers of ours -> from when on it may be granted
-- KEYS[7] room              ZSET    live worker of ours that takes more sessions -> how many it holds
-- KEYS[8] room_existing     ZSET    the same of existing workers
-- KEYS[9] loads             HASH    "<worker>" -> sessions it owns; "<worker> r": that are only reserved; "<worker> w": waiting
-- KEYS[10] numbers          HASH    "o <state>", "u <state>" -> owned and unowned sessions; "changes", "impossible"; "announced"
--                                   (ready.lua)
-- KEYS[11] reserved         ZSET    session -> when its reservation ends
-- KEYS[12] forgotten        ZSET    session -> when it was forgotten, for a while
-- KEYS[13] history          HASH    session -> its last changes, a line each: "<moment>\t<what>\t<who>"
-- KEYS[14] fence            STRING  the last fence that was given to anybody
-- KEYS[15] changes          STREAM  n, s, w, f, b: number, session, who has it now or '', its fence, who had it or ''
-- KEYS[16] lost             ZSET    worker that is not live any more -> since when
-- KEYS[17] phones           ZSET    "<workspace> <phone> <session>" of those that are connected, all scores 0, found by prefix
-- KEYS[18] ended            ZSET    session that is kept, and run by nobody until it is created again or restored -> since when
-- KEYS[19] rivals           ZSET    session connected on an existing worker whose phone another one has -> when it may be claimed
-- KEYS[20] notices          HASH    session that was ended -> what Laravel is to be told of it, until it was
-- KEYS[21] idle_phones      ZSET    "<workspace> <phone> <session>" of those that had that phone and are not connected, all scores 0
-- KEYS[22] phones_due       ZSET    "<workspace> <phone> " whose idle sessions the cleaner is to look at -> when it may be claimed
-- KEYS[23] activity         HASH    session -> what is known of its sends, events and connection: ACTIVITY_FIELDS below
-- KEYS[24] faults           HASH    session that is not well though somebody runs it -> why: FAULT_FIELDS below
-- KEYS[25] untold           LIST    what Laravel is still to be told of faults, a JSON object each (fault.lua)
-- KEYS[26] dropped          HASH    worker -> events that it could not pass on lately; none: not in it
-- KEYS[27] starting         ZSET    existing worker that was started and asked for its sessions -> until when it counts as about to
--                                   start them, though nobody has seen it live yet
--
-- Moments are milliseconds of the scripts' time (sluice/store/lua/clock.lua). The lease belongs to the worker: a session
-- has an owner while its record names a worker that is live, and is not only reserved there. `save` and `drop` derive every
-- index and count from the record, so these are always true together. Which workers have room is worked out by `done`.
local records, fleet, live, places, waiting, orphans = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local room, room_existing, loads, numbers, reserved = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local forgotten, history, last_fence, changes, lost = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local phones, ended, rivals, notices = KEYS[17], KEYS[18], KEYS[19], KEYS[20]
local idle_phones, phones_due = KEYS[21], KEYS[22]
local activity, faults, untold, dropped, starting = KEYS[23], KEYS[24], KEYS[25], KEYS[26], KEYS[27]

-- Fields at the end of a record that are as in EMPTY are left away. Those that a later release has added are not read; version
-- 0.1.0 fails at them, so none may be added before layout 2.
--   since      of the last change of state, phone or owner      existing   1: its holder, or its last one, is an existing worker
--   worker     its holder; fence: under which                   last       its last owner, while it has no holder
--   lost       since when nobody has it                         missing    since when its holder does not list it
--   reserved   1: only a place is held; by `claims` requests    fresh      1: nobody knew it before that reservation
--   leaving    a worker, '*' (anybody), '!' (it is forgotten) or '-' (it is ended): where it goes when its holder has stopped it
--   avoid      a worker that could not stop it                  before     about and workspace before the reservation
--   odd        the last state that was reported and is impossible after `state`
--   again      since when an existing worker that was started again lists it as not logged in yet
--   ended      why it is run by nobody, though it is kept: 'superseded' or 'deleted'; 'purging': it is being forgotten
--   rival      the session that has its phone, while it is connected, too
--   closing    {moment, why, in whose favour, who}: its existing worker is just being asked to close it, and then it is ended
--   asked      when it was last asked for while nobody had it: by a create, or by Laravel's list of accounts
--   announced  the order in which Laravel was last told that it is connected (ready.lua); 0: it never was
local FIELDS = {'state', 'since', 'worker', 'fence', 'about', 'workspace', 'phone', 'existing', 'last', 'lost', 'reason',
                'missing', 'reserved', 'claims', 'fresh', 'leaving', 'avoid', 'before', 'odd', 'again', 'ended',
                'rival', 'closing', 'asked', 'announced'}
local EMPTY = {state = 'created', since = 0, worker = '', fence = 0, about = '{}', workspace = '', phone = '', existing = 0,
               last = '', lost = 0, reason = '', missing = 0, reserved = 0, claims = 0, fresh = 0, leaving = '', avoid = '',
               before = '', odd = '', again = 0, ended = '', rival = '', closing = '', asked = 0, announced = 0}
-- `drains`: since when it is to drain, as somebody else wants it to; `draining`: it says so itself
local WORKER_FIELDS = {'instance', 'url', 'capacity', 'existing', 'draining', 'memory', 'cpu', 'takes_ids', 'drains'}
local FULL_AT = 0.9
local KEPT_CHANGES, ANNOUNCED = 20, 1000

-- Each a line of values with tabs between them; moments in milliseconds, 0 or '': none.
--   heard       its last event               asked     the first send after that which should have brought one
--   sending     when a send was in flight    lost      the last moments at which its connection was lost, by spaces
--   restarts    the last moments at which it was restarted    restarting    until when that may still go on
local ACTIVITY_FIELDS = {'heard', 'sent', 'sending', 'lost', 'restarts', 'restarting'}
local NO_ACTIVITY = '0\t0\t0\t\t\t0'
local FAULT_FIELDS = {'kind', 'since', 'noted', 'reason'}
local KEPT_MOMENTS = 20

-- Lua would write 1.7e+12.
local function digits(number)
  return string.format('%.0f', number)
end

-- Nobody could renew a lease while nobody looked at the time, whether that was a pause or only the clock that was set. So
-- what was left of a lease, or of a place that is held, is left after a leap.
if leapt > 0 then
  for _, ends in ipairs({live, reserved, starting}) do
    local found = call('ZRANGE', ends, 0, -1, 'WITHSCORES')
    for i = 1, #found, 2 do call('ZADD', ends, digits(found[i + 1] + leapt), found[i]) end
  end
end

-- --- workers

local seen_workers, touched = {}, {}

local function worker_of(id)
  if seen_workers[id] == nil then
    local packed = call('HGET', fleet, id)
    local worker = false
    if packed then
      worker = {}
      local values = cmsgpack.unpack(packed)
      for i = 1, math.min(#values, #WORKER_FIELDS) do worker[WORKER_FIELDS[i]] = values[i] end
    end
    seen_workers[id] = worker
  end
  return seen_workers[id]
end

local function save_worker(id, worker)
  local values = {}
  for i, name in ipairs(WORKER_FIELDS) do values[i] = worker[name] or 0 end
  call('HSET', fleet, id, cmsgpack.pack(values))
  seen_workers[id], touched[id] = worker, true
end

-- How many milliseconds it stays live without another beat; 0: it is not live.
local function left_of(id)
  return math.max(0, tonumber(call('ZSCORE', live, id) or 0) - now)
end

-- Is it live, and still the process it was?
local function is_current(id, instance)
  local worker = worker_of(id)
  return worker and worker.instance == instance and left_of(id) > 0
end

-- Counts are changed in memory, and written once, by `done`.
local pending, stored = {[loads] = {}, [numbers] = {}}, {}

local function add(key, field, change)
  if field then pending[key][field] = (pending[key][field] or 0) + change end
end

local function load_of(field)
  if not stored[field] then stored[field] = tonumber(call('HGET', loads, field) or 0) end
  return stored[field] + (pending[loads][field] or 0)
end

local function taken_by(id)
  return load_of(id) + load_of(id .. ' r')
end

local function has_room(id)
  local worker = worker_of(id)
  return worker and left_of(id) > 0 and worker.draining == 0 and (worker.drains or 0) == 0 and worker.memory < FULL_AT and worker.cpu < FULL_AT
    and taken_by(id) < worker.capacity
end

local function rank(id)
  local worker = worker_of(id)
  if worker and has_room(id) then
    call('ZADD', worker.existing == 1 and room_existing or room, taken_by(id), id)
  else
    call('ZREM', room, id)
    call('ZREM', room_existing, id)
  end
end

local given

-- The last thing a script that changes anything does, whatever way it ends.
local function done(answer)
  for id in pairs(touched) do rank(id) end
  for key, fields in pairs(pending) do
    for field, change in pairs(fields) do
      if change ~= 0 and call('HINCRBY', key, field, change) == 0 then call('HDEL', key, field) end
    end
  end
  if given then call('SET', last_fence, digits(given)) end
  return answer
end

local function prefix_of(id, workspace)
  return workspace and id .. ' ' .. string.gsub(workspace, ' ', '_') .. ' ' or id .. ' '
end

-- A space ends the prefix, and '!' is the byte after it.
local function range_of(prefix)
  return '[' .. prefix, '(' .. string.sub(prefix, 1, -2) .. '!'
end

-- The sessions in this index under this worker, `most` at most.
local function sessions_of(index, id, most)
  local from, to = range_of(prefix_of(id))
  local found = call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, most or -1)
  for i, member in ipairs(found) do found[i] = string.match(member, '^[^ ]* [^ ]* (.*)$') end
  return found
end

-- --- records

-- A phone as it stands in the index: digits, so that two spellings are one.
local function phone_prefix(record)
  local digits_of_it = string.gsub(string.match(record.phone, '^[^@:]*'), '%D', '')
  return digits_of_it ~= '' and string.gsub(record.workspace, ' ', '_') .. ' ' .. digits_of_it .. ' '
end

-- What follows from a record: {index, member in it, score, field of `loads`, field of `numbers`, member of `phones`, member of
-- `idle_phones`}
local function derived(record)
  local session, workspace = record.session, record.workspace
  local hidden = record.fresh == 1 or record.leaving == '!'
  local holds, owned = record.worker ~= '', record.worker ~= '' and record.reserved == 0
  local counted = not hidden and ((record.ended ~= '' and 'e ' or owned and 'o ' or 'u ') .. record.state)
  local prefix = record.phone ~= '' and not hidden and record.ended == '' and phone_prefix(record)
  local phone = prefix and prefix .. session
  if holds then
    local field = record.reserved == 1 and record.worker .. ' r' or record.worker
    local connected = owned and record.state == 'connected'
    return {places, prefix_of(record.worker, workspace) .. session, 0, field, counted, connected and phone,
            not connected and phone}
  elseif record.ended ~= '' then
    return {ended, session, record.since, false, counted, false, false}
  elseif record.existing == 1 and record.last ~= '' then
    return {waiting, prefix_of(record.last, workspace) .. session, 0, record.last .. ' w', counted, false, phone}
  end
  return {orphans, session, record.lost, false, counted, false, phone}
end

local DEFAULTS = {__index = EMPTY}

local function opened(session, packed)
  local record = setmetatable({session = session, packed = packed}, DEFAULTS)
  local values = cmsgpack.unpack(packed)
  for i = 1, math.min(#values, #FIELDS) do record[FIELDS[i]] = values[i] end
  return record
end

-- nil when it is not known.
local function record_of(session)
  local packed = call('HGET', records, session)
  return packed and opened(session, packed) or nil
end

local NOWHERE = {false, false, 0, false, false, false, false}

local function new_record(session, about, workspace)
  return setmetatable({session = session, about = about, workspace = workspace, since = now}, DEFAULTS)
end

-- `packed` is how it is stored.
local function reindex(record, packed, is)
  local was = record.packed and derived(opened(record.session, record.packed)) or NOWHERE
  record.packed = packed
  if was[1] ~= is[1] or was[2] ~= is[2] or was[3] ~= is[3] then
    if was[1] then call('ZREM', was[1], was[2]) end
    if is[1] then call('ZADD', is[1], digits(is[3]), is[2]) end
  end
  if was[4] ~= is[4] then
    for _, field in ipairs({was[4] or '', is[4] or ''}) do
      if field ~= '' then touched[string.match(field, '^[^ ]+')] = true end
    end
    add(loads, was[4], -1)
    add(loads, is[4], 1)
  end
  if was[5] ~= is[5] then
    add(numbers, was[5], -1)
    add(numbers, is[5], 1)
  end
  for i, index in ipairs({phones, idle_phones}) do
    local before, after = was[5 + i], is[5 + i]
    if before ~= after then
      if before then call('ZREM', index, before) end
      if after then call('ZADD', index, 0, after) end
    end
  end
end

-- --- how it does

-- What stands in a line of values with tabs between them.
local function split(line, names, into)
  local i = 0
  for value in string.gmatch(line .. '\t', '([^\t]*)\t') do
    i = i + 1
    if names[i] then into[names[i]] = value end
  end
  return into
end

local function joined(found, names)
  local values = {}
  for i, name in ipairs(names) do values[i] = type(found[name]) == 'number' and digits(found[name]) or found[name] end
  return table.concat(values, '\t')
end

local function activity_of(session)
  local found = split(call('HGET', activity, session) or NO_ACTIVITY, ACTIVITY_FIELDS, {})
  for _, name in ipairs({'heard', 'sent', 'sending', 'restarting'}) do found[name] = tonumber(found[name]) or 0 end
  return found
end

local function save_activity(session, found)
  call('HSET', activity, session, joined(found, ACTIVITY_FIELDS))
end

-- Moments by spaces, with this one, the newest KEPT_MOMENTS.
local function with_now(moments)
  local all = {}
  for one in string.gmatch(moments, '%d+') do table.insert(all, one) end
  table.insert(all, digits(now))
  return table.concat(all, ' ', math.max(1, #all - KEPT_MOMENTS + 1))
end

local function lost_connection(session)
  local found = activity_of(session)
  found.lost = with_now(found.lost)
  save_activity(session, found)
end

local function fault_of(session)
  local line = call('HGET', faults, session)
  return line and split(line, FAULT_FIELDS, {}) or nil
end

-- `fault` nil: there is none any more.
local function save_fault(session, before, fault)
  if before then add(numbers, 'fault_' .. before.kind, -1) end
  if fault then
    call('HSET', faults, session, joined(fault, FAULT_FIELDS))
    add(numbers, 'fault_' .. fault.kind, 1)
  elseif before then
    call('HDEL', faults, session)
  end
end

-- A change, for people; written with the next `save`.
local function note(record, what, who)
  local lines = rawget(record, 'lines') or {}
  table.insert(lines, digits(now) .. '\t' .. what .. '\t' .. who .. '\n')
  record.lines = lines
end

local function write_history(record)
  local lines = rawget(record, 'lines')
  if not lines then return end
  local text = (call('HGET', history, record.session) or '') .. table.concat(lines)
  local _, count = string.gsub(text, '\n', '\n')
  for _ = KEPT_CHANGES + 1, count do text = string.sub(text, string.find(text, '\n', 1, true) + 1) end
  call('HSET', history, record.session, text)
  record.lines = nil
end

local function save(record)
  local values, last = {}, 0
  for i, name in ipairs(FIELDS) do
    values[i] = record[name]
    if record[name] ~= EMPTY[name] then last = i end
  end
  for i = last + 1, #FIELDS do values[i] = nil end
  local packed = cmsgpack.pack(values)
  call('HSET', records, record.session, packed)
  write_history(record)
  reindex(record, packed, derived(record))
end

local function drop(record)
  call('HDEL', records, record.session)
  call('HDEL', history, record.session)
  call('HDEL', notices, record.session)
  call('HDEL', activity, record.session)
  save_fault(record.session, fault_of(record.session), nil)
  call('ZREM', rivals, record.session)
  call('ZREM', reserved, record.session)
  reindex(record, false, NOWHERE)
end

local first_change

-- Everybody who remembers who has it hears of it.
local function announce(record, before)
  first_change = first_change or tonumber(call('HGET', numbers, 'changes') or 0)
  add(numbers, 'changes', 1)
  call('XADD', changes, 'MAXLEN', '~', ANNOUNCED, '*', 'n', first_change + pending[numbers].changes, 's', record.session,
       'w', record.reserved == 1 and '' or record.worker, 'f', digits(record.fence), 'b', before)
end

-- --- who has it

local function last_given()
  return given or tonumber(call('GET', last_fence) or 0)
end

-- Never below the clock, so a store that has lost its last second goes on with greater ones; and never ahead of it, as
-- no script grants more than one a microsecond.
local function next_fence()
  given = math.max(micros, last_given() + 1)
  return given
end

local function owns(record)
  return record.worker ~= '' and record.reserved == 0 and record.leaving ~= '!' and record.ended == ''
    and left_of(record.worker) > 0
end

-- {'owner', worker, url, fence, milliseconds left, existing, missing since, takes ids}
local function owner_in(record)
  local worker = worker_of(record.worker)
  return {'owner', record.worker, worker.url, digits(record.fence), left_of(record.worker), worker.existing,
          digits(record.missing), worker.takes_ids or 0}
end

local function settle(record)
  if record.reserved == 1 then call('ZREM', reserved, record.session) end
  record.reserved, record.claims, record.fresh, record.before = 0, 0, 0, ''
  record.last, record.lost, record.missing, record.leaving, record.avoid, record.again = '', 0, 0, '', '', 0
  record.closing, record.asked = '', 0
end

-- It is wanted again.
local function revive(record)
  if record.ended == '' then return end
  record.ended = ''
  call('HDEL', notices, record.session)
end

local function unrival(record)
  if record.rival == '' then return end
  record.rival, record.closing = '', ''
  call('ZREM', rivals, record.session)
end

-- Without `save` and `announce`. Returns whom it belonged to.
local function give(record, id, what, who)
  local before = record.worker
  settle(record)
  revive(record)
  record.worker, record.existing, record.fence, record.since = id, worker_of(id).existing, next_fence(), now
  note(record, what .. ' ' .. id, who)
  return before
end

local function grant(record, id, what, who, before)
  before = before or record.worker
  give(record, id, what, who)
  save(record)
  announce(record, before)
end

local function accept(record, who)
  settle(record)
  revive(record)
  record.existing, record.since = worker_of(record.worker).existing, now
  note(record, 'accepted by ' .. record.worker, who)
  save(record)
  announce(record, '')
end

local function forget(record)
  call('ZADD', forgotten, digits(now), record.session)
  local before = record.worker
  record.worker = ''
  drop(record)
  announce(record, before)
end

-- A place that was only held; what was known before it is known again.
local function undo(record, who)
  if record.leaving == '!' then return forget(record) end
  if record.fresh == 1 then return drop(record) end
  if record.before ~= '' then record.about, record.workspace = unpack(record.before) end
  record.worker, record.reserved, record.claims, record.before = '', 0, 0, ''
  call('ZREM', reserved, record.session)
  note(record, 'not accepted', who)
  save(record)
end

-- Its holder has it no more. `ended`: since when; now where nothing is said.
local function release(record, what, who, ended)
  if record.leaving == '!' then return forget(record) end
  if record.reserved == 1 then return undo(record, who) end
  local before, to = record.worker, record.leaving
  settle(record)
  unrival(record)
  record.last, record.worker, record.lost, record.since = before, '', ended or now, now
  local target = to ~= '' and to ~= '*' and worker_of(to)
  if target and target.existing == 1 then record.last, record.existing = to, 1 end
  note(record, what, who)
  if target and target.existing == 0 and has_room(to) then return grant(record, to, 'moved to', who, before) end
  save(record)
  announce(record, before)
end

-- What a session said of itself. `moves`: the allowed ones, ' from>to from>to '; of a new owner's first word, any.
local function report(record, state, phone, reason, moves, who)
  if state == '' then state = record.state end
  if phone == '' and state ~= 'connected' then phone = record.phone end -- the one that it had
  if state ~= record.state and moves and not string.find(moves, ' ' .. record.state .. '>' .. state .. ' ', 1, true) then
    if record.odd == state then return false end
    record.odd = state
    add(numbers, 'impossible', 1)
    note(record, 'refused ' .. record.state .. ' > ' .. state, who)
    return true
  end
  if state == record.state and phone == record.phone and reason == record.reason then return false end
  if record.state == 'connected' and state ~= 'connected' then lost_connection(record.session) end
  if state ~= record.state then note(record, record.state .. ' > ' .. state .. (reason ~= '' and ': ' .. reason or ''), who) end
  record.closing = ''
  record.state, record.phone, record.reason, record.since, record.odd = state, phone, reason, now, ''
  if state ~= 'connected' then unrival(record) end
  return true
end

-- --- who is run by nobody, and one phone

local RUNNING = {starting = true, authenticated = true, connected = true}

-- It is kept, and nobody runs it any more. One of ours that does stops it first; of an existing one whoever calls this has
-- seen to it. Laravel is told.
local function finish(record, why, by, who)
  record.ended, record.closing = why, ''
  unrival(record)
  if RUNNING[record.state] then record.state = 'disconnected' end
  record.reason, record.since = by == '' and why or why .. ' by ' .. by, now
  note(record, record.reason, who)
  call('HSET', notices, record.session, cmsgpack.pack({digits(now), record.workspace, record.reason, who}))
  if record.worker ~= '' and record.existing == 0 and left_of(record.worker) > 0 then
    record.leaving = '-'
    save(record)
    announce(record, record.worker)
  elseif record.worker ~= '' then
    release(record, 'stopped', who)
  else
    save(record)
  end
end

local PHONE_AT_ONCE = 16

-- The cleaner is to look at what else has had this phone, if there is anything.
local function look_at_phone(record)
  local prefix = phone_prefix(record)
  if not prefix then return end
  local from, to = range_of(prefix)
  for _, member in ipairs(call('ZRANGEBYLEX', idle_phones, from, to, 'LIMIT', 0, 2)) do
    if member ~= prefix .. record.session then return call('ZADD', phones_due, digits(now), prefix) end
  end
end

-- A session that is connected now has a phone. `keep`: who stays of several in a workspace, 'newest', 'oldest' or 'allow'. A
-- worker of ours is told to stop the others; what an existing one runs is only marked. It is not saved yet.
local function one_phone(record, keep, who)
  local prefix = record.state == 'connected' and record.ended == '' and phone_prefix(record)
  if prefix then look_at_phone(record) end
  if keep == 'allow' or not prefix then return unrival(record) end
  local from, to = range_of(prefix)
  for _, member in ipairs(call('ZRANGEBYLEX', phones, from, to, 'LIMIT', 0, PHONE_AT_ONCE)) do
    local session = string.sub(member, #prefix + 1)
    local other = session ~= record.session and record_of(session)
    if other then
      local yields, stays = other, record
      if keep == 'oldest' then yields, stays = record, other end
      if yields.existing == 1 then
        if yields.rival ~= stays.session then
          yields.rival = stays.session
          call('ZADD', rivals, digits(now), yields.session)
          note(yields, stays.session .. ' has its phone', who)
          if yields == other then save(other) end
        end
      else
        finish(yields, 'superseded', stays.session, who)
        if yields == record then return end
      end
    end
  end
end

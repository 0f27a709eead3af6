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
-- KEYS[10] numbers          HASH    "o <state>", "u <state>" -> owned and unowned sessions; "changes", "impossible"
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
--
-- Moments are milliseconds of the scripts' time (sluice/store/lua/clock.lua). The lease belongs to the worker: a session
-- has an owner while its record names a worker that is live, and is not only reserved there. `save` and `drop` derive every
-- index and count from the record, so these are always true together. Which workers have room is worked out by `done`.
local records, fleet, live, places, waiting, orphans = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local room, room_existing, loads, numbers, reserved = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local forgotten, history, last_fence, changes, lost = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local phones, ended, rivals, notices = KEYS[17], KEYS[18], KEYS[19], KEYS[20]

-- Fields at the end of a record that are as in EMPTY are left away.
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
local FIELDS = {'state', 'since', 'worker', 'fence', 'about', 'workspace', 'phone', 'existing', 'last', 'lost', 'reason',
                'missing', 'reserved', 'claims', 'fresh', 'leaving', 'avoid', 'before', 'odd', 'again', 'ended',
                'rival'}
local EMPTY = {state = 'created', since = 0, worker = '', fence = 0, about = '{}', workspace = '', phone = '', existing = 0,
               last = '', lost = 0, reason = '', missing = 0, reserved = 0, claims = 0, fresh = 0, leaving = '', avoid = '',
               before = '', odd = '', again = 0, ended = '', rival = ''}
local WORKER_FIELDS = {'instance', 'url', 'capacity', 'existing', 'draining', 'memory', 'cpu'}
local FULL_AT = 0.9
local KEPT_CHANGES, ANNOUNCED = 20, 1000

-- Lua would write 1.7e+12.
local function digits(number)
  return string.format('%.0f', number)
end

-- Nobody could renew a lease while nobody looked at the time, whether that was a pause or only the clock that was set. So
-- what was left of a lease, or of a place that is held, is left after a leap.
if leapt > 0 then
  for _, ends in ipairs({live, reserved}) do
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
      for i, value in ipairs(cmsgpack.unpack(packed)) do worker[WORKER_FIELDS[i]] = value end
    end
    seen_workers[id] = worker
  end
  return seen_workers[id]
end

local function save_worker(id, worker)
  local values = {}
  for i, name in ipairs(WORKER_FIELDS) do values[i] = worker[name] end
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
  return worker and left_of(id) > 0 and worker.draining == 0 and worker.memory < FULL_AT and worker.cpu < FULL_AT
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

-- What follows from a record: {index, member in it, score, field of `loads`, field of `numbers`, member of `phones`}
local function derived(record)
  local session, workspace = record.session, record.workspace
  local hidden = record.fresh == 1 or record.leaving == '!'
  local holds, owned = record.worker ~= '', record.worker ~= '' and record.reserved == 0
  local counted = not hidden and ((record.ended ~= '' and 'e ' or owned and 'o ' or 'u ') .. record.state)
  if holds then
    local field = record.reserved == 1 and record.worker .. ' r' or record.worker
    local connected = owned and not hidden and record.ended == '' and record.state == 'connected' and phone_prefix(record)
    return {places, prefix_of(record.worker, workspace) .. session, 0, field, counted, connected and connected .. session}
  elseif record.ended ~= '' then
    return {ended, session, record.since, false, counted, false}
  elseif record.existing == 1 and record.last ~= '' then
    return {waiting, prefix_of(record.last, workspace) .. session, 0, record.last .. ' w', counted, false}
  end
  return {orphans, session, record.lost, false, counted, false}
end

local DEFAULTS = {__index = EMPTY}

local function opened(session, packed)
  local record = setmetatable({session = session, packed = packed}, DEFAULTS)
  for i, value in ipairs(cmsgpack.unpack(packed)) do record[FIELDS[i]] = value end
  return record
end

-- nil when it is not known.
local function record_of(session)
  local packed = call('HGET', records, session)
  return packed and opened(session, packed) or nil
end

local NOWHERE = {false, false, 0, false, false, false}

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
  if was[6] ~= is[6] then
    if was[6] then call('ZREM', phones, was[6]) end
    if is[6] then call('ZADD', phones, 0, is[6]) end
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

-- Never below the clock, so a store that has lost its last second goes on with greater ones; and never ahead of it, as
-- no script grants more than one a microsecond.
local function next_fence()
  given = math.max(micros, (given or tonumber(call('GET', last_fence) or 0)) + 1)
  return given
end

local function owns(record)
  return record.worker ~= '' and record.reserved == 0 and record.leaving ~= '!' and record.ended == ''
    and left_of(record.worker) > 0
end

-- {'owner', worker, url, fence, milliseconds left, existing, missing since}
local function owner_in(record)
  local worker = worker_of(record.worker)
  return {'owner', record.worker, worker.url, digits(record.fence), left_of(record.worker), worker.existing,
          digits(record.missing)}
end

local function settle(record)
  if record.reserved == 1 then call('ZREM', reserved, record.session) end
  record.reserved, record.claims, record.fresh, record.before = 0, 0, 0, ''
  record.last, record.lost, record.missing, record.leaving, record.avoid, record.again = '', 0, 0, '', '', 0
end

-- It is wanted again.
local function revive(record)
  if record.ended == '' then return end
  record.ended = ''
  call('HDEL', notices, record.session)
end

local function unrival(record)
  if record.rival == '' then return end
  record.rival = ''
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
  if state ~= record.state and moves and not string.find(moves, ' ' .. record.state .. '>' .. state .. ' ', 1, true) then
    if record.odd == state then return false end
    record.odd = state
    add(numbers, 'impossible', 1)
    note(record, 'refused ' .. record.state .. ' > ' .. state, who)
    return true
  end
  if state == record.state and phone == record.phone and reason == record.reason then return false end
  if state ~= record.state then note(record, record.state .. ' > ' .. state .. (reason ~= '' and ': ' .. reason or ''), who) end
  record.state, record.phone, record.reason, record.since, record.odd = state, phone, reason, now, ''
  if state ~= 'connected' then unrival(record) end
  return true
end

-- --- who is run by nobody, and one phone

local RUNNING = {starting = true, authenticated = true, connected = true}

-- It is kept, and nobody runs it any more. One of ours that does stops it first; of an existing one whoever calls this has
-- seen to it. Laravel is told.
local function finish(record, why, by, who)
  record.ended = why
  unrival(record)
  if RUNNING[record.state] then record.state = 'disconnected' end
  record.reason, record.since = by == '' and why or why .. ' by ' .. by, now
  note(record, record.reason, who)
  call('HSET', notices, record.session, cmsgpack.pack({digits(now), record.workspace, record.reason}))
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

-- A session that is connected now has a phone. `keep`: who stays of several in a workspace, 'newest', 'oldest' or 'allow'. A
-- worker of ours is told to stop the others; what an existing one runs is only marked. It is not saved yet.
local function one_phone(record, keep, who)
  local prefix = record.state == 'connected' and record.ended == '' and phone_prefix(record)
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

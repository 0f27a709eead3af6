-- Purpose    Stores events, each once, at the end of its stream in every endpoint that it is for.
-- Guarantee  An event is stored for all of its endpoints that have room, or for none: when all are full, or one that is
--            required. What is answered 1 or 2 will be leased. An event id that was accepted before is not stored again,
--            but for an endpoint that had to leave it out and has room by now. Once an event has come under a fence,
--            nothing of its session is stored under a lower one, for whichever endpoint.
-- KEYS       four of the partition (events.lua), then sixteen for each endpoint (partition.lua), then the names of the
--            partition's endpoints: one is added with its first event, so that it is found when the policies have lost it;
--            then the highest fence of each session (relay/queue/fences.py)
-- ARGV       1 how many endpoints  2 how many events that have left stay in the history (0: none)  3 how many partitions
--            for each endpoint: up to how many events and bytes may wait here without looking further; its budget, "<the
--            most events> <the most bytes that may wait for it> <events> <bytes that wait in the other partitions>
--            <events> <bytes that wait in this one, as they were last seen> <seen: some time ago | fresh | final: as
--            fresh, and the last time of asking> <optional | required>"; order: 'session' | 'none',
--            which counts until a relay has said it to the store (forms.lua)
--            for each event: lane letter, ordering key (session or event id), event id, recognise repeats for (ms), not
--            before (ms from now, or "<ms> <limit> <us for one of its tokens> <its burst> <ms for all other limits>" of
--            what a limit delays), time to live (ms, 0: for ever), coalesce key ('', or a newer event of the same lane,
--            ordering key and coalesce key replaces it), its endpoints ("1 3", or "~1 3": a refusal is not counted,
--            as it is tried again), content, '' or "<digest of what must be the same in a repeat ('': nothing must)>\1
--            <fence of the lease under which its session sent it, us ('': it came without)>\1<'' | 'first': other lanes
--            of its session wait until it was delivered | 'after': they wait until such a one has come> <ms at most>"
-- Return     for each event 1 stored, or superseded at once | 2 stored, and for some endpoint in place of an older one
--            | 0 a repeat | 4 refused: its id was accepted with another digest, and would still be recognised
--            | 5 refused: something came under a higher fence | 6 refused: no lease can have this fence yet
--            | -n refused: endpoint n is full | 3 ask again: what the other partitions hold has to be looked at first
--            | { 0, 1 or 2, n, ... }: but not for these endpoints, which are full. Then, for each endpoint, how many
--            events and bytes wait in this partition now, and at last the time (ms) at which this was. After one that is
--            to be asked again so are all others.
-- Twice      is the same as once: the second time all are repeats, and those that were left out are named again, or
--            stored where there is room by now.

local SHARED_KEYS, KEYS_PER_ENDPOINT, PER_ENDPOINT, PER_EVENT = 4, 16, 4, 10
local FIRST_ENDPOINT = 4
local STORED, REPLACED, REPEAT, ASK_AGAIN, OTHER, STALE, BEYOND = 1, 2, 0, 3, 4, 5, 6
local endpoints, max_history = {}, tonumber(ARGV[2])

for i = 1, tonumber(ARGV[1]) do
  local k, a = SHARED_KEYS + (i - 1) * KEYS_PER_ENDPOINT, FIRST_ENDPOINT + (i - 1) * PER_ENDPOINT
  local e = {
    queue = KEYS[k + 1], leases = KEYS[k + 5],
    schedule = {[URGENT] = KEYS[k + 2], [NORMAL] = KEYS[k + 3], [BULK] = KEYS[k + 4]},
    attempts = KEYS[k + 6], latest = KEYS[k + 7], counts = KEYS[k + 10], history = KEYS[k + 11],
    delayed = KEYS[k + 12], left_out = KEYS[k + 13], awaits = KEYS[k + 16],
    most_events = tonumber(ARGV[a]), most_bytes = tonumber(ARGV[a + 1]), budget = ARGV[a + 2],
    happened = {}, page = {}, entries = {}, due = {[URGENT] = {}, [NORMAL] = {}, [BULK] = {}},
  }
  e.held = call('ZCARD', e.queue)
  local known = call('HMGET', e.counts, 'bytes', 'order')
  e.bytes, e.in_order = known[1], (known[2] or ARGV[a + 3]) ~= 'none'
  if not e.bytes then
    call('SADD', KEYS[SHARED_KEYS + ARGV[1] * KEYS_PER_ENDPOINT + 1], match(e.counts, '^sl:{%d+}:(.*):counts$'))
  end
  e.bytes = tonumber(e.bytes or 0)
  if e.held == 0 and e.bytes ~= 0 then  -- some were lost, and nobody knows how large they were
    e.bytes = 0
    call('HSET', e.counts, 'bytes', 0)
  end
  endpoints[i] = e
end

local function count(e, what, by) e.happened[what] = (e.happened[what] or 0) + (by or 1) end

local rare  -- () -> the functions for what rarely happens, see below

-- Whether an event of this size fits in without looking further, as nearly always.
local function is_roomy(e, lane, size)
  if lane ~= BULK then return e.held < e.most_events and e.bytes + size <= e.most_bytes end
  if not e.bulk_events then rare().read_budget(e) end
  return e.held < e.bulk_events and e.bytes + size <= e.bulk_bytes
end

local is_known = {}  -- what this call has stored, and what it has replaced: a repeat of either is recognised

-- The waiting event that this one replaces; one that is leased right now is not replaced.
local function find_older(e, coalesce_key)
  local entry_id = call('HGET', e.latest, coalesce_key)
  if not entry_id then return nil end
  local stream, seq, id = split(entry_id)
  if call('HEXISTS', EVENTS, id) == 0 then return nil end
  local lease = call('HGET', e.leases, stream)
  if lease and seq <= tonumber(match(lease, '^%d+ (%d+) ')) then return nil end
  return entry_id
end

local function replace(e, entry_id, id, coalesce_key)
  local stream, seq, gone = split(entry_id)
  local record = call('HGET', EVENTS, gone)
  local accepted, dedupe_until, for_several = parse_leaving(record)
  local fresh = string.format('%s\0%014d\0%s', stream, seq, id)
  call('ZREM', e.queue, entry_id)
  call('ZADD', e.queue, 0, fresh)
  call('HDEL', e.attempts, entry_id, entry_id .. CRASHES, entry_id .. LOG, entry_id .. REPLAYED, entry_id .. FAILURES)
  call('HSET', e.latest, coalesce_key, fresh)
  release_record(gone, for_several, dedupe_until)
  is_known[gone] = dedupe_until > now
  add_to_page(e.page, entry_id, accepted, 'replaced', '0', id, '')
  e.bytes = e.bytes - #record
  count(e, 'bytes', -#record)
  count(e, 'replaced')
  return fresh
end

-- --- what is written together

local records = {}  -- id and record of each

local function save()
  with_all('HSET', EVENTS, records)
  for _, e in ipairs(endpoints) do
    with_all('ZADD', e.queue, e.entries)
    e.entries = {}
    for lane, streams in pairs(e.due) do
      for i = 1, #streams, PART do
        call('ZADD', e.schedule[lane], 'NX', unpack(streams, i, math.min(i + PART - 1, #streams)))
      end
      e.due[lane] = {}
    end
  end
  records = {}
end

local function append(e, lane, ordering_key, id, seq, not_before)
  local stream = lane .. (e.in_order and ordering_key or id)
  local entry_id = string.format('%s\0%014d\0%s', stream, seq, id)
  local entries, due = e.entries, e.due[lane]
  local n, m = #entries, #due
  entries[n + 1], entries[n + 2] = 0, entry_id
  due[m + 1], due[m + 2] = not_before, stream
  e.held = e.held + 1
  return entry_id
end

-- --- one event

local FIRST = FIRST_ENDPOINT + PER_ENDPOINT * #endpoints
local known_until = {}  -- by event: until when a repeat is recognised, where one of its id has left before
do
  local ids = {}
  for at = FIRST, #ARGV, PER_EVENT do ids[#ids + 1] = ARGV[at + 2] end
  for i = 1, #ids, PART do
    local some = call('ZMSCORE', DEDUPE, unpack(ids, i, math.min(i + PART - 1, #ids)))
    for j = 1, #some do known_until[i + j - 1] = some[j] end
  end
end

local function is_repeat(at, id)
  if is_known[id] or call('HEXISTS', EVENTS, id) == 1 then return true end
  local until_then = known_until[(at - FIRST) / PER_EVENT + 1]
  return until_then and tonumber(until_then) > now
end

local seq, reserved = 0, 0
local function next_seq(at)
  if reserved == 0 then  -- for all that may follow
    reserved = (#ARGV - at + 1) / PER_EVENT
    seq = call('INCRBY', SEQ, reserved) - reserved
  end
  seq, reserved = seq + 1, reserved - 1
  return seq
end

local lists = {}  -- of endpoints, by their numbers as text
local function endpoints_of(text)
  local list = lists[text]
  if list then return list end
  list = {}
  for number in string.gmatch(text, '%d+') do list[#list + 1] = tonumber(number) end
  lists[text] = list
  return list
end

local function new_record(at, own_seq, delay, endpoint_count, coalesce_key)
  return string.format('%d %s %s %s %s %d %s %d\n', own_seq, now_text, delay, ARGV[at + 5], ARGV[at + 3],
    endpoint_count, ARGV[at], #coalesce_key) .. coalesce_key .. ARGV[at + 8]
end

-- Puts the event whose arguments begin at `at` into the queue of an endpoint, or in the place of the older one that
-- waits there under its coalesce key. Returns whether it took that, and its entry id.
local function store_for(e, at, coalesce_key, delay, own_seq, record)
  local older, answer, entry_id = coalesce_key ~= '' and find_older(e, coalesce_key), STORED, nil
  if older then
    entry_id = replace(e, older, ARGV[at + 2], coalesce_key)
    answer = REPLACED
  else
    entry_id = append(e, ARGV[at], ARGV[at + 1], ARGV[at + 2], own_seq, now + delay)
    if coalesce_key ~= '' then call('HSET', e.latest, coalesce_key, entry_id) end
  end
  e.bytes = e.bytes + #record
  count(e, 'bytes', #record)
  count(e, 'accepted')
  return answer, entry_id
end

local is_unsure = false

local function accept(at)
  if is_unsure then return ASK_AGAIN end  -- else a younger event would go before an older one of its session
  local lane, id = ARGV[at], ARGV[at + 2]
  local coalesce_key, delay = ARGV[at + 6], tonumber(ARGV[at + 4])
  if coalesce_key ~= '' then
    coalesce_key = lane .. ARGV[at + 1] .. '\0' .. coalesce_key
    save()  -- what it replaces is looked for in the store
  end
  local with = endpoints_of(ARGV[at + 7])
  if is_repeat(at, id) then return rare().repeat_it(at, coalesce_key, with) end
  local has_more = ARGV[at + 9] ~= ''
  local stale = has_more and rare().refuse_by_fence(at)
  if stale then return stale end
  local late
  if has_more then with, late = rare().split_late(with, at) end
  if #with == 0 then return rare().forgo(at, late) end
  local size, endpoint_count, without = #coalesce_key + #ARGV[at + 8], #with, nil
  for i = 1, endpoint_count do
    if not is_roomy(endpoints[with[i]], lane, size) then
      local refusal
      with, without, refusal = rare().find_room(with, lane, size, coalesce_key, sub(ARGV[at + 7], 1, 1) ~= '~')
      if refusal then return refusal end
      break
    end
  end
  local by
  if not delay then delay, by = match(ARGV[at + 4], '^(%d+) (.*)$') end
  local own_seq = next_seq(at)
  local record = new_record(at, own_seq, delay, endpoint_count, coalesce_key)
  records[#records + 1], records[#records + 2] = id, record
  is_known[id] = true
  if has_more then rare().note_more(at) end
  if coalesce_key ~= '' then save() end
  if endpoint_count > 1 then call('HSET', REFS, id, #with) end
  local answer = STORED
  for i = 1, #with do
    local e = endpoints[with[i]]
    local stored, entry_id = store_for(e, at, coalesce_key, delay, own_seq, record)
    if stored == REPLACED then answer = REPLACED end
    if has_more then rare().note_what_goes_first(e, at, entry_id) end
    if by then rare().note_delay(e, at, delay, by) end
  end
  if late then rare().supersede(late, at) end
  return without and rare().leave_out(at, without, answer) or answer
end

-- --- what rarely happens

-- Defined only when it happens: a call pays for each function that it defines.
local function define_rare_steps()
  local BULK_SHARE = 0.9  -- bulk is refused first, so that the other lanes still find room
  local MAX_LEFT_OUT = 10000  -- of which it is known for an endpoint in a partition, those that are forgotten last
  local ROOM, FULL, UNSURE = 1, 2, 3
  local partitions = tonumber(ARGV[3])

  -- The other partitions may fill up meanwhile: so this one takes its part of the room that was seen, and asks again.
  local function part(seen, most) return seen + (most - seen) / partitions end

  local function read_budget(e)
    local all_events, all_bytes, other_events, other_bytes, events, bytes, how, is_required =
      match(e.budget, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%a+) (%a+)$')
    e.is_fresh, e.is_final, e.is_required = how ~= 'seen', how == 'final', is_required == 'required'
    e.max_events, e.max_bytes = all_events - other_events, all_bytes - other_bytes
    e.max_bulk_events, e.max_bulk_bytes = all_events * BULK_SHARE - other_events, all_bytes * BULK_SHARE - other_bytes
    e.bulk_events, e.bulk_bytes = e.max_bulk_events, e.max_bulk_bytes
    if not e.is_final then
      e.bulk_events, e.bulk_bytes = math.floor(part(events, e.bulk_events)), part(bytes, e.bulk_bytes)
    end
  end

  local function room(e, lane, size)
    if is_roomy(e, lane, size) then return ROOM end
    read_budget(e)
    local max_events = lane == BULK and e.max_bulk_events or e.max_events
    local max_bytes = lane == BULK and e.max_bulk_bytes or e.max_bytes
    if e.held + 1 > max_events or e.bytes + size > max_bytes then return e.is_fresh and FULL or UNSURE end
    return UNSURE
  end

  -- The endpoints of an event that have room and those that are full, or nil if that is not known.
  local function split_by_room(to, lane, size, coalesce_key)
    local with, without = {}, {}
    for _, i in ipairs(to) do
      local e = endpoints[i]
      local found = room(e, lane, size)
      -- What takes the place of an older one needs no more room.
      if found ~= ROOM and coalesce_key ~= '' and find_older(e, coalesce_key) then found = ROOM end
      if found == UNSURE then
        is_unsure = true
        return nil
      end
      local list = found == ROOM and with or without
      list[#list + 1] = i
    end
    return with, without
  end

  local function refusing(with, without)
    for _, i in ipairs(without) do
      if endpoints[i].is_required then return i end
    end
    return #with == 0 and without[1]
  end

  local function tell(e, what)
    count(e, what)
    note_lately(e.counts, what, 1)
  end

  -- With whom it is stored, without whom, and else the answer.
  local function find_room(to, lane, size, coalesce_key, is_last_try)
    local with, without = split_by_room(to, lane, size, coalesce_key)
    if not with then return nil, nil, ASK_AGAIN end
    if #without == 0 then return with end
    local refused_by = refusing(with, without)
    if not refused_by then return with, without end
    for _, i in ipairs(is_last_try and without or {}) do tell(endpoints[i], 'refused') end
    return nil, nil, -refused_by
  end

  local function leave_out(at, without, answer)
    for _, i in ipairs(without) do
      local e = endpoints[i]
      call('ZREMRANGEBYSCORE', e.left_out, '-inf', now)
      local too_many = call('ZCARD', e.left_out) + 1 - MAX_LEFT_OUT
      if too_many > 0 then call('ZREMRANGEBYRANK', e.left_out, 0, too_many - 1) end
      call('ZADD', e.left_out, now + ARGV[at + 3], ARGV[at + 2])
      tell(e, 'left_out')
    end
    return {answer, unpack(without)}
  end

  -- Notes why an event is delayed, so that it can be brought forward when its limit is edited (hasten.lua).
  local function note_delay(e, at, delay, by)
    local past = math.min(call('ZCOUNT', e.delayed, '-inf', now), 2)
    if past > 0 then call('ZREMRANGEBYRANK', e.delayed, 0, past - 1) end
    local numbers, others = match(by, '^(%S+ %d+ %d+) (%d+)$')
    local member = string.format('%s %d\0%s\0%s', numbers, now + others, ARGV[at + 1], ARGV[at + 2])
    call('ZADD', e.delayed, now + delay, member)
  end

  -- A repeat is how its sender brings an event to an endpoint that had to leave it out: to that one alone, and in its
  -- place before younger ones where its record is still here. Where a newer one waits under its coalesce key, that is
  -- enough.
  local function store_later(e, at, coalesce_key, endpoint_count)
    save()  -- it may be of this very call
    local id, delay = ARGV[at + 2], match(ARGV[at + 4], '^%d+')
    local record, own_seq = call('HGET', EVENTS, id), nil
    call('ZREM', e.left_out, id)
    if coalesce_key ~= '' and find_older(e, coalesce_key) then return end
    if record then
      own_seq = tonumber(match(record, '^%d+'))
      call('HINCRBY', REFS, id, 1)
    else
      own_seq = next_seq(at)
      record = new_record(at, own_seq, delay, endpoint_count, coalesce_key)
      call('HSET', EVENTS, id, record)
      call('HSET', REFS, id, 1)
      is_known[id] = true
    end
    store_for(e, at, coalesce_key, delay, own_seq, record)
  end

  local function left_out_of(id, to)
    local left_out = {}
    for _, i in ipairs(to) do
      local until_then = #to > 1 and call('ZSCORE', endpoints[i].left_out, id)
      if until_then and tonumber(until_then) > now then left_out[#left_out + 1] = i end
    end
    return left_out
  end

  local FENCES = KEYS[SHARED_KEYS + KEYS_PER_ENDPOINT * #endpoints + 2]
  local MAX_FENCES = 50000  -- of the sessions of a partition; the lowest are forgotten first
  local LATE = 2000  -- ms; of a login in its browser to `session_ready` it takes longer
  local MOST_AHEAD = 3600 * 1000000  -- us; the slots' times may differ

  -- The digest, the fence, and what waits with which event; '' where there is none.
  local function more_of(at)
    if ARGV[at + 9] == '' then return '', '', '' end
    return match(ARGV[at + 9], '^([^\1]*)\1(%d*)\1(.*)$')
  end

  local function refuse_by_fence(at)
    local _, fence = more_of(at)
    if fence == '' then return nil end
    local newest = call('ZSCORE', FENCES, ARGV[at + 1])
    if newest and tonumber(newest) > tonumber(fence) then return STALE end
    return tonumber(fence) > micros + MOST_AHEAD and BEYOND or nil
  end

  -- A digest is remembered as long as its event is recognised.
  local function note_more(at)
    local digest, fence = more_of(at)
    if digest ~= '' then
      call('ZADD', DEDUPE, now + tonumber(ARGV[at + 3]), ARGV[at + 2] .. DIGEST .. digest)
    end
    if fence ~= '' and call('ZADD', FENCES, fence, ARGV[at + 1]) == 1 and call('ZCARD', FENCES) > MAX_FENCES then
      call('ZREMRANGEBYRANK', FENCES, 0, 0)
    end
  end

  -- Forgets some of what is over; each call notes one.
  local function forget_awaited(e)
    local some = call('HRANDFIELD', e.awaits, 3, 'WITHVALUES')
    for i = 1, #some, 2 do
      local until_then, entry_id = match(some[i + 1], '^(%d+) ?(.*)$')
      local is_here = entry_id ~= '' and call('ZSCORE', e.queue, entry_id)
      if tonumber(until_then) <= now and not is_here then call('HDEL', e.awaits, some[i]) end
    end
  end

  -- Which of 'first' and 'after' it is, and for how long others wait (ms).
  local function role_of(at)
    local _, _, role = more_of(at)
    return match(role, '^(%a+) (%d+)$')
  end

  -- The entry id of the login that this announces, where that came a moment ago. Later than that it is another one: the
  -- session was started anew.
  local function has_come(e, at)
    local which, ms = role_of(at)
    if which ~= 'after' or not e.in_order then return nil end
    local until_then, entry_id = match(call('HGET', e.awaits, ARGV[at + 1]) or '', '^(%d+) (.+)$')
    return until_then and now < until_then - ms + LATE and entry_id
  end

  -- What announces a login that has come already is not sent: its receiver would take the older news for the newer.
  -- Returns the endpoints that get it, and for those that do not each with its login, if there are any.
  local function split_late(to, at)
    local with, late = {}, {}
    for _, i in ipairs(to) do
      local login = has_come(endpoints[i], at)
      if login then late[#late + 1] = {endpoints[i], login} else with[#with + 1] = i end
    end
    if #late == 0 then return to end
    return with, late
  end

  local function supersede(late, at)
    for _, one in ipairs(late) do
      local e, login = unpack(one)
      local entry_id = string.format('%s\0%014d\0%s', ARGV[at] .. ARGV[at + 1], next_seq(at), ARGV[at + 2])
      add_to_page(e.page, entry_id, now_text, 'superseded', '0', select(3, split(login)), '')
      count(e, 'accepted')
      count(e, 'superseded')
    end
  end

  -- No endpoint gets it; its repeats are recognised.
  local function forgo(at, late)
    supersede(late, at)
    call('ZADD', DEDUPE, now + tonumber(ARGV[at + 3]), ARGV[at + 2])
    note_more(at)
    is_known[ARGV[at + 2]] = true
    return STORED
  end

  local function note_what_goes_first(e, at, entry_id)
    local which, ms = role_of(at)
    if not which or not e.in_order then return end
    forget_awaited(e)
    local until_then = string.format('%d', now + ms)
    call('HSET', e.awaits, ARGV[at + 1], which == 'first' and until_then .. ' ' .. entry_id or until_then)
  end

  local function is_other(at)
    local id, digest = ARGV[at + 2], (more_of(at))
    if digest == '' or call('ZSCORE', DEDUPE, id .. DIGEST .. digest) then return false end
    local until_then, record = known_until[(at - FIRST) / PER_EVENT + 1], call('HGET', EVENTS, id)
    if record then until_then = select(2, parse_leaving(record)) end
    return not until_then or tonumber(until_then) > now  -- nothing of it is stored yet: it came in this call
  end

  local function repeat_it(at, coalesce_key, to)
    if is_other(at) then return OTHER end
    local left_out, still = left_out_of(ARGV[at + 2], to), {}
    if #left_out > 0 then
      local with
      with, still = split_by_room(left_out, ARGV[at], #coalesce_key + #ARGV[at + 8], coalesce_key)
      if not with then return ASK_AGAIN end
      for _, i in ipairs(with) do store_later(endpoints[i], at, coalesce_key, #to) end
    end
    for _, i in ipairs(to) do count(endpoints[i], 'repeats') end
    return #still == 0 and REPEAT or {REPEAT, unpack(still)}
  end

  return {
    read_budget = read_budget, find_room = find_room, leave_out = leave_out, note_delay = note_delay,
    repeat_it = repeat_it, refuse_by_fence = refuse_by_fence, note_more = note_more,
    note_what_goes_first = note_what_goes_first, split_late = split_late, supersede = supersede, forgo = forgo,
  }
end

local defined
rare = function()
  defined = defined or define_rare_steps()
  return defined
end

-- --- all of them

local answers = {}
for at = FIRST, #ARGV, PER_EVENT do answers[#answers + 1] = accept(at) end
save()
for _, e in ipairs(endpoints) do
  for what, by in pairs(e.happened) do call('HINCRBY', e.counts, what, by) end
  append_page(e.history, e.counts, e.page, max_history)
  answers[#answers + 1], answers[#answers + 2] = e.held, e.bytes
end
answers[#answers + 1] = now
return answers

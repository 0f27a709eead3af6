-- Purpose    Settles deliveries that ended and leases the next ones, in one call.
-- Guarantee  Only the holder of a stream's current token settles what it leased, so a late holder changes nothing; a
--            leased stream is leased to nobody else until its lease ends. All results of one lease come in one call:
--            what it leaves out is given up and comes again.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 lease (ms)  2..4 at least so many of urgent, normal, bulk  5 at most in all (0: only settle)
--            6 holders that may die on one event before it is buried  7 most of one stream in one lease
--            8 of how many events that left something is kept (0: none)
--            then for each result: token, eid, outcome, argument, what came of the attempt (a line for people; '':
--            nothing), for 'o' and 'd' its record up to where the content begins
--              'o' delivered, argument is the length of its record | 'r' failed, again after argument ms | 'p' put back
--              for argument ms, not counted | 'd' dead, argument is the reason. A 'p' of which nothing came was never
--              sent: who died on it stays known.
-- Return     { which results were refused (1: the first), ms until something is due (-1: nothing waits), the token of
--              what was leased ('': nothing was), { eid, record, for each delivery },
--              { eid, attempts that failed, holders that died on it, for those where one is not 0 } }
-- Twice      the second time the results are refused, for their tokens are gone, and further deliveries are leased;
--            those of a lost answer come back when their leases end.

local lease, most, poison = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
local most_of_one, most_logged = tonumber(ARGV[7]), tonumber(ARGV[8])
local RESULTS, PER_RESULT = 9, 6  -- where they begin, and arguments of each
local HISTORY = 2048  -- bytes of it that are kept of one event

local any_attempts = call('HLEN', ATTEMPTS) > 0  -- mostly there are none, and no need to look for those of each event

local function fields_of(key, fields)
  if #fields == 0 then return {} end
  if #fields <= PART then return call('HMGET', key, unpack(fields)) end
  local values = {}
  for i = 1, #fields, PART do
    local some = call('HMGET', key, unpack(fields, i, math.min(i + PART - 1, #fields)))
    for j = 1, #some do values[i + j - 1] = some[j] end
  end
  return values
end

-- By lane: when which streams may next be claimed, and those of which nothing waits any more.
local at, off = {}, {}

local function of_lane(lists, stream)
  local name = sub(stream, 1, 1)
  local list = lists[name] or {}
  lists[name] = list
  return list
end

local function schedule(stream, moment)
  local moments = of_lane(at, stream)
  local n = #moments
  moments[n + 1], moments[n + 2] = moment, stream
end

local function unschedule(stream)
  local streams = of_lane(off, stream)
  streams[#streams + 1] = stream
end

local function save_schedules()
  for name, moments in pairs(at) do with_all('ZADD', SCHEDULE[name], moments) end
  for name, streams in pairs(off) do with_all('ZREM', SCHEDULE[name], streams) end
  at, off = {}, {}
end

local seldom  -- (), what seldom happens: see below

-- --- leaving the queue

local left = {eids = {}, ids = {}, known = {}}
local page = {}

local function save_left()
  if #left.eids == 0 then return end
  with_all('ZREM', QUEUE, left.eids)
  with_all('HDEL', EVENTS, left.ids)
  with_all('ZADD', IDS, left.known)
  left = {eids = {}, ids = {}, known = {}}
end

local function leave_queue(eid, kept)
  left.eids[#left.eids + 1] = eid
  if kept ~= '' and call('HGET', LATEST, kept) == eid then call('HDEL', LATEST, kept) end
end

-- Delivered, or not worth sending any more. `head` is its record, or that up to where the content begins.
local function leaves(eid, id, head, size, how, told)
  local accepted, recognised_until, for_several, kept = parse_leaving(head)
  leave_queue(eid, kept)
  local failed, history = '0', ''
  if any_attempts then failed, history = seldom().forgotten_attempts(eid) end
  if most_logged > 0 then farewell(page, eid, accepted, how, failed, told, history) end
  count('bytes', -size)
  count(how)
  if for_several then return let_go(id, true, recognised_until) end
  left.ids[#left.ids + 1] = id
  if recognised_until > now then
    local known, n = left.known, #left.known
    known[n + 1], known[n + 2] = recognised_until, id
  end
end

-- --- settling

local wait_until = {}

local function settle(eid, stream, outcome, argument, told, head)
  local id = sub(eid, #stream + 17)
  if outcome == 'o' then return leaves(eid, id, head, tonumber(argument), 'delivered', told) end
  -- Where one that comes again at once is gone, the next lease sees it.
  if (outcome == 'd' or argument ~= '0') and call('HEXISTS', EVENTS, id) == 0 then return seldom().lose(eid) end
  if outcome == 'd' then return seldom().bury(eid, head, argument, told) end
  if outcome == 'r' or told ~= '' then seldom().note_attempt(eid, outcome, told) end
  wait_until[stream] = math.max(wait_until[stream] or 0, now + argument)
end

local function streams_of_results()
  local streams, n = {}, 0
  for i = RESULTS + 1, #ARGV, PER_RESULT do
    local eid = ARGV[i]
    n = n + 1
    streams[n] = sub(eid, 1, find(eid, '\0', 1, true) - 1)
  end
  return streams
end

-- Settles those of the current tokens, each event once. Which are refused, which streams are given up, and of these
-- whether more followed what was leased.
local function settle_each(streams)
  local owners, settled = fields_of(OWNERS, streams), {}
  local refused, freed, followed, n = {}, {}, {}, 0
  for i = 1, #streams do
    local stream = streams[i]
    local a = RESULTS + (i - 1) * PER_RESULT
    local token, eid, owner = ARGV[a], ARGV[a + 1], owners[i]
    local is_mine, first = is_owned_by(owner, token), settled[stream]
    if is_mine and first ~= eid and not settled[eid] then
      if first then
        settled[eid] = true
      else  -- mostly the only one of its stream
        n = n + 1
        settled[stream], freed[n], followed[n] = eid, stream, is_followed(owner, token)
      end
      settle(eid, stream, ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5])
    else
      refused[#refused + 1] = i
      if owner and not is_mine then seldom().is_late(eid, owner) end
    end
  end
  return refused, freed, followed
end

local function settle_all()
  local refused, freed, followed = settle_each(streams_of_results())
  with_all('HDEL', OWNERS, freed)
  save_left()
  for i = 1, #freed do
    local stream = freed[i]
    -- Should its next event not be due yet, that is seen when it is looked at.
    if wait_until[stream] then schedule(stream, wait_until[stream])
    elseif followed[i] or first_of(stream, 1)[1] then schedule(stream, now)
    else unschedule(stream) end
  end
  save_schedules()
  return refused
end

-- --- leasing

local leased, n_leased, tried = {}, 0, {}
local owned, until_then = {}, now + lease

local token = ''
local function new_token()
  if token == '' then token = string.format('%d', call('HINCRBY', COUNTS, 'tok', 1)) end
  return token
end

-- Whether an event that expires (a moment) is no longer worth sending.
local function is_stale(eid, expires)
  return expires <= now and not (any_attempts and call('HEXISTS', ATTEMPTS, eid .. '\4') == 1)
end

-- How many holders died on it.
local function lease_one(eid, record)
  leased[2 * n_leased + 1], leased[2 * n_leased + 2] = eid, record
  n_leased = n_leased + 1
  if not any_attempts then return 0 end
  local before = call('HMGET', ATTEMPTS, eid, eid .. '\2')
  local failed, deaths = tonumber(before[1] or 0), tonumber(before[2] or 0)
  if failed + deaths > 0 then
    local n = #tried
    tried[n + 1], tried[n + 2], tried[n + 3] = eid, failed, deaths
  end
  return deaths
end

local function own(stream, first, last, next_one)
  schedule(stream, until_then)
  local n = #owned
  owned[n + 1], owned[n + 2] = stream, owner_of(new_token(), stream, first, last, next_one)
end

-- Heads that nobody had before, one of each stream: nearly all are.
local function lease_heads(streams)
  local firsts, ids = {}, {}
  for i = 1, #streams do
    local stream = streams[i]
    local two = first_of(stream, 2)
    firsts[i], ids[i] = two, two[1] and sub(two[1], #stream + 17) or ''
  end
  local records = fields_of(EVENTS, ids)
  for i = 1, #streams do
    local stream = streams[i]
    local eid, record = firsts[i][1], records[i]
    local not_before, expires = 0, 0
    if record then not_before, expires = parse_due(record) end
    if not eid then unschedule(stream)
    elseif not record or expires > 0 and is_stale(eid, expires) then seldom().lease_stream(stream, nil, 1)
    elseif not_before > now then schedule(stream, not_before)
    else
      lease_one(eid, record)
      own(stream, eid, eid, firsts[i][2])
    end
  end
end

local nothing_due = {}  -- by lane
local lanes = LANES

-- Mostly nothing is urgent, and nothing bulk: one question instead of four.
local function leave_out_empty_lanes()
  if call('EXISTS', SCHEDULE.u, SCHEDULE.b) > 0 then return end
  lanes, nothing_due.u, nothing_due.b = {'n'}, true, true
end

local function take(from, wanted)
  if wanted <= 0 or nothing_due[from] then return end
  local before = n_leased
  local streams = call('ZRANGEBYSCORE', SCHEDULE[from], '-inf', now, 'LIMIT', 0, wanted)
  nothing_due[from] = #streams < wanted
  if #streams == 0 then return end
  local owners, plain = fields_of(OWNERS, streams), {}
  for i = 1, #streams do
    local stream = streams[i]
    if most_of_one == 1 and not owners[i] then
      plain[#plain + 1] = stream
    elseif n_leased - before + #plain < wanted then
      seldom().lease_stream(stream, owners[i], wanted - (n_leased - before) - #plain)
    else
      nothing_due[from] = false
    end
  end
  lease_heads(plain)
  save_schedules()
  with_all('HSET', OWNERS, owned)
  owned = {}
end

-- --- what seldom happens

-- Defined only where it does: a turn pays for each function that it defines, and these cost more than an event.
local function what_seldom_happens()
  -- How many failed, and their history.
  local function forgotten_attempts(eid)
    local before = call('HMGET', ATTEMPTS, eid, eid .. '\2', eid .. '\3', eid .. '\4')
    if before[1] or before[2] or before[3] or before[4] then forget_attempts(eid) end
    return before[1] or '0', before[3] or ''
  end

  -- Somebody has taken its record out of the store: it must not stand in the way of the others.
  local function lose(eid)
    leave_queue(eid, '')
    forget_attempts(eid)
    count('lost')
  end

  local function history_with(eid, told)
    local before = call('HGET', ATTEMPTS, eid .. '\3') or ''
    local line = now_text .. ' ' .. told .. '\n'
    if #before + #line > HISTORY then
      before = match(sub(before, #before + #line - HISTORY + 1), '\n(.*)$') or ''
    end
    return before .. line
  end

  local function note(eid, told)
    if told == '' then return end
    call('HSET', ATTEMPTS, eid .. '\3', history_with(eid, told))
    any_attempts = true
  end

  local function bury(eid, head, reason, told)
    local _, _, _, kept = parse_leaving(head)
    leave_queue(eid, kept)
    note(eid, told)
    call('HDEL', ATTEMPTS, eid .. '\2', eid .. '\4')
    call('ZADD', DEAD, now, eid)
    call('HSET', REASONS, eid, reason)
    count('dead')
  end

  -- A late holder did not die on it, as whoever leased it next had to think.
  local function is_late(eid, owner)
    if first_owned(owner) ~= eid then return end
    if tonumber(call('HGET', ATTEMPTS, eid .. '\2') or 0) > 0 then call('HINCRBY', ATTEMPTS, eid .. '\2', -1) end
  end

  local function note_attempt(eid, outcome, told)
    if outcome == 'r' then
      call('HINCRBY', ATTEMPTS, eid, 1)
      any_attempts = true
      count('retried')
    end
    if any_attempts then call('HDEL', ATTEMPTS, eid .. '\2') end
    note(eid, told)
  end

  -- The head of a due stream that is worth sending; what is stale, or has killed its holders, is cleared away first.
  local function worth_sending(stream, owner)
    local left_behind
    if owner then
      left_behind = first_owned(owner)
      call('HDEL', OWNERS, stream)
    end
    for _ = 1, 100 do
      local eid = first_of(stream, 1)[1]
      if not eid then return unschedule(stream) end
      local id = sub(eid, #stream + 17)
      local record = call('HGET', EVENTS, id)
      if not record then
        lose(eid)
      else
        local not_before, expires = parse_due(record)
        if not_before > now then return schedule(stream, not_before) end
        local deaths = 0
        if eid == left_behind then
          deaths = call('HINCRBY', ATTEMPTS, eid .. '\2', 1)
          any_attempts = true
        end
        if expires > 0 and is_stale(eid, expires) then
          leaves(eid, id, record, #record, 'expired', '')
        elseif deaths >= poison then
          bury(eid, record, 'its delivery ended ' .. poison .. ' processes', '')
        else
          return eid, record
        end
      end
      save_left()
    end
  end

  -- What comes after the head, as far as it may be sent now: at most so many. The last one leased, and what follows it.
  local function lease_more(stream, first, wanted)
    local eids, last = first_of(stream, wanted + 2), first
    for i = 2, wanted + 1 do
      local eid = eids[i]
      if not eid then return last, nil end
      local record = call('HGET', EVENTS, sub(eid, #stream + 17))
      if not record then return last, eid end
      local not_before, expires = parse_due(record)
      if not_before > now or expires > 0 and is_stale(eid, expires) then return last, eid end
      lease_one(eid, record)
      last = eid
    end
    return last, eids[wanted + 2]
  end

  local function lease_stream(stream, owner, wanted)
    local first, record = worth_sending(stream, owner)
    if not first then return end
    -- What may have ended a process goes alone: it must not take others along.
    local more = lease_one(first, record) == 0 and math.min(wanted, most_of_one) - 1 or 0
    own(stream, first, lease_more(stream, first, more))
  end

  return {
    forgotten_attempts = forgotten_attempts, lose = lose, bury = bury, is_late = is_late, note_attempt = note_attempt,
    lease_stream = lease_stream,
  }
end

local defined
seldom = function()
  defined = defined or what_seldom_happens()
  return defined
end

-- --- the turn

local refused = #ARGV >= RESULTS and settle_all() or {}

leave_out_empty_lanes()
local urgent, normal, bulk = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
take('u', math.min(urgent, most))
take('b', math.min(bulk, most - n_leased))
-- All at once, where nothing urgent may have what is left: a take of many costs little more than one of few.
take('n', nothing_due.u and most - n_leased or math.min(normal, most - n_leased))
for _, from in ipairs(lanes) do take(from, most - n_leased) end

local due = -1
for _, from in ipairs(lanes) do
  local first = call('ZRANGE', SCHEDULE[from], 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if due < 0 or wait < due then due = wait end
  end
end

local settled = (#ARGV - RESULTS + 1) / PER_RESULT
if settled > 0 then
  local old = math.min(call('ZCOUNT', IDS, '-inf', now), 2 * settled)
  if old > 0 then call('ZREMRANGEBYRANK', IDS, 0, old - 1) end
end
append_page(LEFT, COUNTS, page, most_logged)
save_counts()
return {refused, due, token, leased, tried}

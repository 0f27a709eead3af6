-- Purpose    Settles deliveries that ended and leases the next ones, in one call.
-- Guarantee  Only the holder of a stream's current token settles what it leased, so a late holder changes nothing; a
--            leased stream is leased to nobody else until its lease ends. All results of one lease come in one call:
--            what it leaves out is given up and comes again.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 lease (ms)  2..4 at least so many of urgent, normal, bulk  5 at most in all (0: only settle)
--            6 holders that may crash on one event before it becomes a dead letter; the last of them counts only where its
--            POST had begun (begun.lua)  7 at most so many of one stream in
--            one lease  8 how many events that have left stay in the history (0: none)
--            9 1: the records of delivered events are kept | 0
--            then for each result: token, entry id, disposition, argument, summary of the attempt (one line for people;
--            '': nothing was sent), and its record up to where the content begins, or of those that stay when the
--            attempt failed (ms, by the clock of the endpoint's circuit; 0: now)
--              'delivered'  argument is the length of its record
--              'retry'      the attempt failed; again after argument ms
--              'unspent'    the same, but it is not counted, as nobody got through
--              'rejected'   as 'unspent'; the receiver calls the event wrong, and others are to show whether it is
--              'return'     not counted either; again after argument ms. Without a summary it was never sent, and its
--                           crash count stays as it is
--              'superseded' it was not sent, as a newer one was accepted; argument as of 'delivered', summary its id
--              'dead'       argument is the reason
-- Return     { which results were refused (1: the first), ms until something is due (-1: nothing waits), the token of
--              what was leased ('': nothing was), { entry id, record, for each delivery },
--              { entry id, attempts that failed, crash count, what FAILURES holds, for those that have any } }
-- Twice      the second time the results are refused, for their tokens are gone, and further deliveries are leased;
--            those of a lost answer come back when their leases end.

local lease_ms, want, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
local max_per_stream, max_history, keeps_bodies = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local DELIVERED, RETRY, UNSPENT, REJECTED, DEAD = 'delivered', 'retry', 'unspent', 'rejected', 'dead'
local SUPERSEDED = 'superseded'
local FIRST_RESULT, PER_RESULT = 10, 6  -- where the results begin, and how many arguments each has
local RESENT = '~'  -- in the id of an event that a person has sent once more
local MAX_ATTEMPT_LOG = 2048  -- bytes, of one event

local any_attempts = call('HLEN', ATTEMPTS) > 0  -- there are mostly none: then nobody looks for those of each event

local anything_awaited = call('EXISTS', AWAITS) == 1  -- mostly nobody has just logged in

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

-- By lane: when which streams may next be leased, and those of which nothing waits any more.
local due_at, idle = {}, {}

local function list_of_lane(lists, stream)
  local letter = sub(stream, 1, 1)
  local list = lists[letter] or {}
  lists[letter] = list
  return list
end

local function schedule(stream, moment)
  local moments = list_of_lane(due_at, stream)
  local n = #moments
  moments[n + 1], moments[n + 2] = moment, stream
end

local function unschedule(stream)
  local streams = list_of_lane(idle, stream)
  streams[#streams + 1] = stream
end

local function save_schedules()
  for letter, moments in pairs(due_at) do with_all('ZADD', SCHEDULE[letter], moments) end
  for letter, streams in pairs(idle) do with_all('ZREM', SCHEDULE[letter], streams) end
  due_at, idle = {}, {}
end

local rare  -- () -> the functions for what rarely happens, see below

-- --- leaving the queue

local leaving = {entry_ids = {}, ids = {}, dedupe = {}}
local page = {}

local function save_leaving()
  if #leaving.entry_ids == 0 then return end
  with_all('ZREM', QUEUE, leaving.entry_ids)
  with_all('HDEL', EVENTS, leaving.ids)
  with_all('ZADD', DEDUPE, leaving.dedupe)
  leaving = {entry_ids = {}, ids = {}, dedupe = {}}
end

local function leave_queue(entry_id, coalesce_key)
  leaving.entry_ids[#leaving.entry_ids + 1] = entry_id
  if coalesce_key ~= '' and call('HGET', LATEST, coalesce_key) == entry_id then call('HDEL', LATEST, coalesce_key) end
end

-- It was delivered, or is not worth sending any more. `head` is its record, at least up to where the content begins.
local function leave(entry_id, id, head, size, state, summary)
  local accepted, dedupe_until, for_several, coalesce_key = parse_leaving(head)
  leave_queue(entry_id, coalesce_key)
  local failed, attempt_log = '0', ''
  if any_attempts then failed, attempt_log = rare().take_attempts(entry_id) end
  if max_history > 0 then add_to_page(page, entry_id, accepted, state, failed, summary, attempt_log) end
  count('bytes', -size)
  count(state)
  if for_several then return release_record(id, true, dedupe_until) end
  leaving.ids[#leaving.ids + 1] = id
  if dedupe_until > now then
    local dedupe, n = leaving.dedupe, #leaving.dedupe
    dedupe[n + 1], dedupe[n + 2] = dedupe_until, id
  end
end

-- --- settling

local wait_until = {}

-- `head`: of one that stays it is the moment when its attempt failed.
local function settle(entry_id, stream, disposition, argument, summary, head)
  local id = sub(entry_id, #stream + ID_AT)
  if disposition == DELIVERED then
    if keeps_bodies then rare().keep_body(id) end
    return leave(entry_id, id, head, tonumber(argument), DELIVERED, summary)
  end
  if disposition == SUPERSEDED then return leave(entry_id, id, head, tonumber(argument), SUPERSEDED, summary) end
  -- Should the record of one that is due again at once be gone, the next lease sees it.
  if (disposition == DEAD or argument ~= '0') and call('HEXISTS', EVENTS, id) == 0 then return rare().lose(entry_id) end
  if disposition == DEAD then return rare().bury(entry_id, head, argument, summary) end
  if disposition ~= 'return' or summary ~= '' then rare().note_attempt(entry_id, disposition, summary, tonumber(head))
  elseif any_attempts then rare().forget_begun(entry_id) end
  wait_until[stream] = math.max(wait_until[stream] or 0, now + argument)
end

local function streams_of_results()
  local streams, n = {}, 0
  for i = FIRST_RESULT + 1, #ARGV, PER_RESULT do
    local entry_id = ARGV[i]
    n = n + 1
    streams[n] = sub(entry_id, 1, find(entry_id, '\0', 1, true) - 1)
  end
  return streams
end

-- Settles those of the current tokens, each event once. Returns which are refused, which streams are no longer leased,
-- and for each of these whether more followed what was leased.
local function settle_each(streams)
  local leases, settled = fields_of(LEASES, streams), {}
  local refused, freed, followed, n = {}, {}, {}, 0
  for i = 1, #streams do
    local stream = streams[i]
    local a = FIRST_RESULT + (i - 1) * PER_RESULT
    local token, entry_id, lease = ARGV[a], ARGV[a + 1], leases[i]
    local is_mine, first = is_held_by(lease, token), settled[stream]
    if is_mine and first ~= entry_id and not settled[entry_id] then
      if first then
        settled[entry_id] = true
      else  -- it is mostly the only one of its stream
        n = n + 1
        settled[stream], freed[n], followed[n] = entry_id, stream, is_followed(lease, token)
      end
      settle(entry_id, stream, ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5])
    else
      refused[#refused + 1] = i
      if lease and not is_mine then rare().take_back_crash(entry_id, lease) end
    end
  end
  return refused, freed, followed
end

local function settle_all()
  local refused, freed, followed = settle_each(streams_of_results())
  with_all('HDEL', LEASES, freed)
  save_leaving()
  for i = 1, #freed do
    local stream = freed[i]
    -- Should its next event not be due yet, the next lease sees it.
    if wait_until[stream] then schedule(stream, wait_until[stream])
    elseif followed[i] or first_of(stream, 1)[1] then schedule(stream, now)
    else unschedule(stream) end
    if anything_awaited then rare().look_again(stream) end
  end
  save_schedules()
  return refused
end

-- --- leasing

local leased, n_leased, tried = {}, 0, {}
local new_leases, lease_ends = {}, now + lease_ms

local token = ''
local function new_token()
  if token == '' then token = string.format('%d', call('HINCRBY', COUNTS, 'token', 1)) end
  return token
end

-- Whether an event that expires (a moment) is no longer worth sending.
local function is_stale(entry_id, expires)
  return expires <= now and not (any_attempts and call('HEXISTS', ATTEMPTS, entry_id .. REPLAYED) == 1)
end

-- Returns its crash count.
local function lease_one(entry_id, record)
  leased[2 * n_leased + 1], leased[2 * n_leased + 2] = entry_id, record
  n_leased = n_leased + 1
  if not any_attempts then return 0 end
  local before = call('HMGET', ATTEMPTS, entry_id, entry_id .. CRASHES, entry_id .. FAILURES)
  local failed, crash_count = tonumber(before[1] or 0), tonumber(before[2] or 0)
  if failed + crash_count > 0 or before[3] then
    local n = #tried
    tried[n + 1], tried[n + 2], tried[n + 3], tried[n + 4] = entry_id, failed, crash_count, before[3] or ''
  end
  return crash_count
end

local function lease_to_caller(stream, first, last, follower)
  schedule(stream, lease_ends)
  local n = #new_leases
  new_leases[n + 1], new_leases[n + 2] = stream, make_lease(new_token(), stream, first, last, follower)
end

-- The heads of streams that nobody holds, one of each: nearly all are such.
local function lease_heads(streams)
  local firsts, ids = {}, {}
  for i = 1, #streams do
    local stream = streams[i]
    local two = first_of(stream, 2)
    firsts[i], ids[i] = two, two[1] and sub(two[1], #stream + ID_AT) or ''
  end
  local records = fields_of(EVENTS, ids)
  for i = 1, #streams do
    local stream = streams[i]
    local entry_id, record = firsts[i][1], records[i]
    local not_before, expires = 0, 0
    if record then not_before, expires = parse_due(record) end
    if not entry_id then unschedule(stream)
    elseif not record or expires > 0 and is_stale(entry_id, expires) then rare().lease_stream(stream, nil, 1)
    elseif not_before > now then schedule(stream, not_before)
    else
      lease_one(entry_id, record)
      lease_to_caller(stream, entry_id, entry_id, firsts[i][2])
    end
  end
end

local nothing_due = {}  -- by lane
local lanes = LANES

-- Mostly nothing is urgent, and nothing bulk: one command instead of four.
local function leave_out_empty_lanes()
  if call('EXISTS', SCHEDULE[URGENT], SCHEDULE[BULK]) > 0 then return end
  lanes, nothing_due[URGENT], nothing_due[BULK] = {NORMAL}, true, true
end

local function lease_lane(letter, wanted)
  if wanted <= 0 or nothing_due[letter] then return end
  local before = n_leased
  local streams = call('ZRANGEBYSCORE', SCHEDULE[letter], '-inf', now, 'LIMIT', 0, wanted)
  nothing_due[letter] = #streams < wanted
  if #streams == 0 then return end
  local leases, not_leased = fields_of(LEASES, streams), {}
  local held_back = anything_awaited and letter ~= URGENT and rare().held_back(streams, leases) or {}
  for i = 1, #streams do
    local stream = streams[i]
    if held_back[i] then schedule(stream, held_back[i])
    elseif max_per_stream == 1 and not leases[i] then
      not_leased[#not_leased + 1] = stream
    elseif n_leased - before + #not_leased < wanted then
      rare().lease_stream(stream, leases[i], wanted - (n_leased - before) - #not_leased)
    else
      nothing_due[letter] = false
    end
  end
  lease_heads(not_leased)
  save_schedules()
  with_all('HSET', LEASES, new_leases)
  new_leases = {}
end

-- --- what rarely happens

-- Defined only when it happens: a poll pays for each function that it defines, and these cost more than an event.
local function define_rare_steps()
  -- Forgets its attempts. Returns how many failed, and the log of the last of them.
  local function take_attempts(entry_id)
    local before = call('HMGET', ATTEMPTS, entry_id, entry_id .. CRASHES, entry_id .. LOG, entry_id .. REPLAYED,
      entry_id .. FAILURES)
    if before[1] or before[2] or before[3] or before[4] or before[5] then forget_attempts(entry_id) end
    return before[1] or '0', before[3] or ''
  end

  -- Somebody has taken its record out of the store: it must not block the others.
  local function lose(entry_id)
    leave_queue(entry_id, '')
    forget_attempts(entry_id)
    count('lost')
  end

  -- So that it can be sent once more. What was sent so once more is not kept beside the first (relay/queue/kept.py).
  local function keep_body(id)
    if find(id, RESENT, 1, true) then return end
    local record = call('HGET', EVENTS, id)
    if not record then return end
    local before = call('HGET', KEYS[18], id)  -- of one that was accepted again after its repeats were forgotten
    if before then
      call('ZREM', KEYS[19], string.format('%014d\0%s', match(before, '^%d+'), id))
      count('kept_bytes', -#before)
    end
    call('HSET', KEYS[18], id, record)
    call('ZADD', KEYS[19], now, string.format('%014d\0%s', match(record, '^%d+'), id))
    count('kept_bytes', #record)
  end

  local function attempt_log_with(entry_id, summary)
    local before = call('HGET', ATTEMPTS, entry_id .. LOG) or ''
    local line = now_text .. ' ' .. summary .. '\n'
    if #before + #line > MAX_ATTEMPT_LOG then
      before = match(sub(before, #before + #line - MAX_ATTEMPT_LOG + 1), '\n(.*)$') or ''
    end
    return before .. line
  end

  local function log_attempt(entry_id, summary)
    if summary == '' then return end
    call('HSET', ATTEMPTS, entry_id .. LOG, attempt_log_with(entry_id, summary))
    any_attempts = true
  end

  local function bury(entry_id, head, reason, summary)
    local _, _, _, coalesce_key = parse_leaving(head)
    leave_queue(entry_id, coalesce_key)
    log_attempt(entry_id, summary)
    call('HDEL', ATTEMPTS, entry_id .. CRASHES, entry_id .. REPLAYED, entry_id .. FAILURES)
    call('ZADD', DEAD_LETTERS, now, entry_id)
    call('HSET', REASONS, entry_id, reason)
    local _, _, id = split(entry_id)
    local size = call('HSTRLEN', EVENTS, id)
    count('bytes', -size)
    count('dead_bytes', size)
    count('dead')
  end

  -- A late holder did not crash on it, as the next lease had to assume.
  local function take_back_crash(entry_id, lease)
    if first_leased(lease) ~= entry_id then return end
    local crashes = entry_id .. CRASHES
    if tonumber(call('HGET', ATTEMPTS, crashes) or 0) > 0 then call('HINCRBY', ATTEMPTS, crashes, -1) end
  end

  -- The POST of a suspect had begun, and nothing was sent.
  local function forget_begun(entry_id)
    local crashes = entry_id .. CRASHES
    if tonumber(call('HGET', ATTEMPTS, crashes) or 0) < max_crashes then return end
    call('HSET', ATTEMPTS, crashes, string.format('%d', max_crashes - 1))
  end

  local function note_failure(entry_id, disposition, failed_at)
    if failed_at == 0 then failed_at = now end
    local before = call('HGET', ATTEMPTS, entry_id .. FAILURES) or '0 0 0 0'
    local unspent, at, failing_for = match(before, '^(%d+) (%d+) (%d+)')
    if disposition == RETRY then
      call('HINCRBY', ATTEMPTS, entry_id, 1)
      if at ~= '0' then failing_for = failing_for + math.max(0, failed_at - at) end
    end
    unspent = disposition == RETRY and 0 or unspent + 1
    call('HSET', ATTEMPTS, entry_id .. FAILURES, string.format('%d %d %d %d', unspent, failed_at, failing_for,
      disposition == REJECTED and 1 or 0))
    any_attempts = true
  end

  local function note_attempt(entry_id, disposition, summary, failed_at)
    if disposition == RETRY or disposition == UNSPENT or disposition == REJECTED then
      note_failure(entry_id, disposition, failed_at)
      count('retried')
    end
    if any_attempts then call('HDEL', ATTEMPTS, entry_id .. CRASHES) end
    log_attempt(entry_id, summary)
  end

  -- The head of a due stream that is worth sending; what is stale, or has crashed its holders, is cleared away first.
  local function next_worth_sending(stream, lease)
    local abandoned
    if lease then
      abandoned = first_leased(lease)
      call('HDEL', LEASES, stream)
    end
    for _ = 1, 100 do
      local entry_id = first_of(stream, 1)[1]
      if not entry_id then return unschedule(stream) end
      local id = sub(entry_id, #stream + ID_AT)
      local record = call('HGET', EVENTS, id)
      if not record then
        lose(entry_id)
      else
        local not_before, expires = parse_due(record)
        if not_before > now then return schedule(stream, not_before) end
        local crash_count = 0
        if entry_id == abandoned then
          crash_count = tonumber(call('HGET', ATTEMPTS, entry_id .. CRASHES) or 0)
          -- A suspect may have been leased beside the one that ended its holder: that it was sent has been noted.
          if crash_count < max_crashes - 1 then crash_count = call('HINCRBY', ATTEMPTS, entry_id .. CRASHES, 1) end
          any_attempts = true
        end
        if expires > 0 and is_stale(entry_id, expires) then
          leave(entry_id, id, record, #record, 'expired', '')
        elseif crash_count >= max_crashes then
          bury(entry_id, record, max_crashes .. ' relay processes ended while they delivered it', '')
        else
          return entry_id, record
        end
      end
      save_leaving()
    end
  end

  -- Leases what comes after the head, as far as it may be sent now. Returns the last one leased, and what follows it.
  local function lease_more(stream, first, wanted)
    local entry_ids, last = first_of(stream, wanted + 2), first
    for i = 2, wanted + 1 do
      local entry_id = entry_ids[i]
      if not entry_id then return last, nil end
      local record = call('HGET', EVENTS, sub(entry_id, #stream + ID_AT))
      if not record then return last, entry_id end
      local not_before, expires = parse_due(record)
      if not_before > now or expires > 0 and is_stale(entry_id, expires) then return last, entry_id end
      lease_one(entry_id, record)
      last = entry_id
    end
    return last, entry_ids[wanted + 2]
  end

  local LOOK_AGAIN = 250  -- ms; what goes first may leave in ways that wake nobody

  -- Until when the rest of a session waits, by what `awaits` holds; nil: it does not. What goes first keeps the others
  -- back until it is settled, but no longer than that time once it has failed while others got through.
  local function waits_until(awaited)
    local until_then, entry_id = match(awaited, '^(%d+) ?(.*)$')
    until_then = tonumber(until_then)
    if entry_id == '' then return until_then > now and until_then or nil end
    if not call('ZSCORE', QUEUE, entry_id) then return nil end
    return (until_then > now or not call('HGET', ATTEMPTS, entry_id)) and now + LOOK_AGAIN or nil
  end

  -- Of due streams of other lanes than urgent: until when each is not leased, by its place. A lease that is over goes on.
  local function held_back(streams, leases)
    local sessions, held = {}, {}
    for i = 1, #streams do sessions[i] = sub(streams[i], 2) end
    local awaited = fields_of(AWAITS, sessions)
    for i = 1, #streams do held[i] = awaited[i] and not leases[i] and waits_until(awaited[i]) or nil end
    return held
  end

  -- What goes first in a session may have been settled just now.
  local function look_again(stream)
    local session = sub(stream, 2)
    if sub(stream, 1, 1) ~= URGENT or call('HEXISTS', AWAITS, session) == 0 then return end
    for _, letter in ipairs({NORMAL, BULK}) do
      if call('HEXISTS', LEASES, letter .. session) == 0 then
        call('ZADD', SCHEDULE[letter], 'XX', 'LT', now, letter .. session)
      end
    end
  end

  local function lease_stream(stream, lease, wanted)
    local first, record = next_worth_sending(stream, lease)
    if not first then return end
    -- What may have crashed a process goes alone: it must not take others along.
    local more = lease_one(first, record) == 0 and math.min(wanted, max_per_stream) - 1 or 0
    lease_to_caller(stream, first, lease_more(stream, first, more))
  end

  return {
    take_attempts = take_attempts, lose = lose, bury = bury, take_back_crash = take_back_crash,
    forget_begun = forget_begun,
    note_attempt = note_attempt, lease_stream = lease_stream, keep_body = keep_body,
    held_back = held_back, look_again = look_again,
  }
end

local defined
rare = function()
  defined = defined or define_rare_steps()
  return defined
end

-- --- the poll

local refused = #ARGV >= FIRST_RESULT and settle_all() or {}

local SORTING_AGAIN = 200  -- ms until another look while what waits is put in order (sort.lua)
local is_sorting = want > 0 and call('HGET', COUNTS, 'order') == 'sorting'
if is_sorting then want = 0 end

leave_out_empty_lanes()
local urgent, normal, bulk = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
lease_lane(URGENT, math.min(urgent, want))
lease_lane(BULK, math.min(bulk, want - n_leased))
-- All at once where nothing urgent may claim the rest: to lease many costs little more than to lease few.
lease_lane(NORMAL, nothing_due[URGENT] and want - n_leased or math.min(normal, want - n_leased))
for _, letter in ipairs(lanes) do lease_lane(letter, want - n_leased) end

local due = -1
for _, letter in ipairs(lanes) do
  local first = call('ZRANGE', SCHEDULE[letter], 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if due < 0 or wait < due then due = wait end
  end
end

if is_sorting then due = SORTING_AGAIN end

local settled = (#ARGV - FIRST_RESULT + 1) / PER_RESULT
if settled > 0 then
  local old = math.min(call('ZCOUNT', DEDUPE, '-inf', now), 2 * settled)
  if old > 0 then call('ZREMRANGEBYRANK', DEDUPE, 0, old - 1) end
end
append_page(HISTORY, COUNTS, page, max_history)
save_counts()
return {refused, due, token, leased, tried}

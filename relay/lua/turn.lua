-- Purpose    Settles deliveries that ended and leases the next ones, in one call.
-- Guarantee  Only the holder of a stream's current token settles what it leased, so a late holder changes nothing; a
--            leased stream is leased to nobody else until its lease ends. All results of one lease come in one call:
--            what it leaves out is given up and comes again.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 lease (ms)  2..4 at least so many of urgent, normal, bulk  5 at most in all (0: only settle)
--            6 holders that may die on one event before it is buried  7 most of one stream in one lease
--            8 of how many events that left something is kept (0: none)
--            then for each result: token, eid, outcome, argument, what came of the attempt (for people; '': nothing)
--              'o' delivered | 'r' failed, again after argument ms | 'p' put back for argument ms, not counted
--              | 'd' dead, argument is the reason. A 'p' of which nothing came was never sent: who died on it stays known.
-- Return     { for each result 1 settled | 0 refused, ms until something is due (-1: nothing waits), deliveries }
--            delivery = { eid, token, record, attempts that failed, holders that died on it }
-- Twice      the second time the results are refused, for their tokens are gone, and further deliveries are leased;
--            those of a lost answer come back when their leases end.

local lease, most, poison = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
local most_of_one, most_logged = tonumber(ARGV[7]), tonumber(ARGV[8])
local HISTORY = 2048  -- bytes of it that are kept of one event
local PART = 1000  -- arguments of one command: Lua's stack is not endless

local any_attempts = call('HLEN', ATTEMPTS) > 0  -- mostly there are none, and no need to look for those of each event

-- --- many at a time: a command with many arguments costs a fraction of many commands

local function with_all(command, key, arguments)
  for i = 1, #arguments, PART do call(command, key, unpack(arguments, i, math.min(i + PART - 1, #arguments))) end
end

local function fields_of(key, fields)
  local values = {}
  for i = 1, #fields, PART do
    local some = call('HMGET', key, unpack(fields, i, math.min(i + PART - 1, #fields)))
    for j = 1, #some do values[#values + 1] = some[j] end
  end
  return values
end

-- Streams that are scheduled, and those that are no longer, by lane.
local at, off = {u = {}, n = {}, b = {}}, {u = {}, n = {}, b = {}}

local function schedule(stream, moment)
  local moments = at[string.sub(stream, 1, 1)]
  moments[#moments + 1] = moment
  moments[#moments + 1] = stream
end

local function unschedule(stream)
  local streams = off[string.sub(stream, 1, 1)]
  streams[#streams + 1] = stream
end

local function save_schedules()
  for _, name in ipairs(LANES) do
    if #at[name] > 0 then with_all('ZADD', SCHEDULE[name], at[name]) at[name] = {} end
    if #off[name] > 0 then with_all('ZREM', SCHEDULE[name], off[name]) off[name] = {} end
  end
end

-- --- leaving the queue

local left = {eids = {}, ids = {}, known = {}, lines = {}}

local function save_left()
  with_all('ZREM', QUEUE, left.eids)
  with_all('HDEL', EVENTS, left.ids)
  with_all('ZADD', IDS, left.known)
  append_to(LOG, left.lines, most_logged)
  left = {eids = {}, ids = {}, known = {}, lines = {}}
end

local function leave_queue(eid, kept)
  left.eids[#left.eids + 1] = eid
  if kept ~= '' and call('HGET', LATEST, kept) == eid then call('HDEL', LATEST, kept) end
end

-- Delivered, or not worth sending any more.
local function leaves(eid, id, record, how, told)
  local accepted, _, _, recognised_until, endpoints, kept = parse(record)
  leave_queue(eid, kept)
  local before = any_attempts and call('HMGET', ATTEMPTS, eid, eid .. '\3') or {}
  if most_logged > 0 then
    left.lines[#left.lines + 1] = farewell(eid, accepted, how, before[1] or 0, told, before[2])
  end
  if any_attempts then forget_attempts(eid) end
  count('bytes', -#record)
  count(how)
  if endpoints > 1 then return let_go(id, endpoints, recognised_until) end
  left.ids[#left.ids + 1] = id
  if recognised_until > now then
    left.known[#left.known + 1] = recognised_until
    left.known[#left.known + 1] = id
  end
end

-- Somebody has taken its record out of the store: it must not stand in the way of the others.
local function lose(eid)
  leave_queue(eid, '')
  forget_attempts(eid)
  count('lost')
end

local function history_with(eid, told)
  local before = call('HGET', ATTEMPTS, eid .. '\3') or ''
  local line = string.format('%d %s\n', now, (string.gsub(told, '\n', ' ')))
  if #before + #line > HISTORY then
    before = string.match(string.sub(before, #before + #line - HISTORY + 1), '\n(.*)$') or ''
  end
  return before .. line
end

local function note(eid, told)
  if told == '' then return end
  call('HSET', ATTEMPTS, eid .. '\3', history_with(eid, told))
  any_attempts = true
end

local function bury(eid, record, reason, told)
  local _, _, _, _, _, kept = parse(record)
  leave_queue(eid, kept)
  note(eid, told)
  call('HDEL', ATTEMPTS, eid .. '\2', eid .. '\4')
  call('ZADD', DEAD, now, eid)
  call('HSET', REASONS, eid, reason)
  count('dead')
end

-- --- settling

local function results()
  local all = {}
  for i = 9, #ARGV, 5 do
    local stream, _, id = split(ARGV[i + 1])
    all[#all + 1] = {
      stream = stream, id = id, token = ARGV[i], eid = ARGV[i + 1], outcome = ARGV[i + 2], argument = ARGV[i + 3],
      told = ARGV[i + 4],
    }
  end
  return all
end

local function column(rows, name)
  local values = {}
  for i, row in ipairs(rows) do values[i] = row[name] end
  return values
end

-- A late holder did not die on it, as whoever leased it next had to think.
local function is_late(result, first)
  if first == result.eid and tonumber(call('HGET', ATTEMPTS, result.eid .. '\2') or 0) > 0 then
    call('HINCRBY', ATTEMPTS, result.eid .. '\2', -1)
  end
end

-- Those of the current tokens, each event once; their streams are given up. Also the answers: 1 settled | 0 refused.
local function fenced(all)
  local owners = fields_of(OWNERS, column(all, 'stream'))
  local mine, answers, freed, seen = {}, {}, {}, {}
  for i, result in ipairs(all) do
    local token, _, first = string.match(owners[i] or '', '^(%d+) (%d+) (.*)$')
    local valid = token == result.token and not seen[result.eid]
    answers[i] = valid and 1 or 0
    if valid then
      mine[#mine + 1] = result
      seen[result.eid] = true
      if not seen[result.stream] then freed[#freed + 1] = result.stream end
      seen[result.stream] = true
    elseif token ~= result.token then
      is_late(result, first)
    end
  end
  with_all('HDEL', OWNERS, freed)
  return mine, answers, freed
end

local wait_until = {}

local function settle(result, record)
  local eid, outcome = result.eid, result.outcome
  if outcome == 'o' then return leaves(eid, result.id, record, 'delivered', result.told) end
  if outcome == 'd' then return bury(eid, record, result.argument, result.told) end
  if outcome == 'r' then
    call('HINCRBY', ATTEMPTS, eid, 1)
    any_attempts = true
    count('retried')
  end
  local unsent = outcome == 'p' and result.told == ''
  if any_attempts and not unsent then call('HDEL', ATTEMPTS, eid .. '\2') end
  note(eid, result.told)
  wait_until[result.stream] = math.max(wait_until[result.stream] or 0, now + tonumber(result.argument))
end

local function settle_all()
  local mine, answers, freed = fenced(results())
  local records = fields_of(EVENTS, column(mine, 'id'))
  for i, result in ipairs(mine) do
    if records[i] then settle(result, records[i]) else lose(result.eid) end
  end
  save_left()
  for _, stream in ipairs(freed) do
    -- Should its next event not be due yet, that is seen when it is looked at.
    if wait_until[stream] then schedule(stream, wait_until[stream])
    elseif first_of(stream, 1)[1] then schedule(stream, now)
    else unschedule(stream) end
  end
  save_schedules()
  return answers
end

-- --- leasing

local leased, owned = {}, {}

local token
local function new_token()
  token = token or string.format('%d', call('HINCRBY', COUNTS, 'tok', 1))
  return token
end

-- Whether this event is no longer worth sending.
local function is_stale(eid, expires)
  return expires > 0 and expires <= now and not (any_attempts and call('HEXISTS', ATTEMPTS, eid .. '\4') == 1)
end

-- How many holders died on it.
local function lease_one(eid, record)
  local before = any_attempts and call('HMGET', ATTEMPTS, eid, eid .. '\2') or {}
  leased[#leased + 1] = {eid, new_token(), record, before[1] or '0', before[2] or '0'}
  return tonumber(before[2] or 0)
end

local function own(stream, first, last)
  local _, seq = split(last)
  schedule(stream, now + lease)
  owned[#owned + 1] = stream
  owned[#owned + 1] = string.format('%s %d ', new_token(), seq) .. first
end

-- The head of a due stream that is worth sending; what is stale, or has killed its holders, is cleared away first.
local function worth_sending(stream, owner)
  local left_behind
  if owner then
    left_behind = string.match(owner, '^%d+ %d+ (.*)$')
    call('HDEL', OWNERS, stream)
  end
  for _ = 1, 100 do
    local eid = first_of(stream, 1)[1]
    if not eid then return unschedule(stream) end
    local _, _, id = split(eid)
    local record = call('HGET', EVENTS, id)
    if not record then
      lose(eid)
    else
      local _, not_before, expires = parse(record)
      if not_before > now then return schedule(stream, not_before) end
      local deaths = 0
      if eid == left_behind then
        deaths = call('HINCRBY', ATTEMPTS, eid .. '\2', 1)
        any_attempts = true
      end
      if is_stale(eid, expires) then
        leaves(eid, id, record, 'expired', '')
      elseif deaths >= poison then
        bury(eid, record, 'its delivery ended ' .. poison .. ' processes', '')
      else
        return eid, record
      end
    end
    save_left()
  end
end

-- What comes after the head, as far as it may be sent now. The last of it.
local function lease_more(stream, wanted)
  local last
  for i, eid in ipairs(first_of(stream, wanted + 1)) do
    if i > 1 then
      local _, _, id = split(eid)
      local record = call('HGET', EVENTS, id)
      if not record then break end
      local _, not_before, expires = parse(record)
      if not_before > now or is_stale(eid, expires) then break end
      lease_one(eid, record)
      last = eid
    end
  end
  return last
end

local function lease_stream(stream, owner, wanted)
  local first, record = worth_sending(stream, owner)
  if not first then return end
  local deaths, last = lease_one(first, record), nil
  -- What may have ended a process goes alone: it must not take others along.
  if deaths == 0 and wanted > 1 and most_of_one > 1 then
    last = lease_more(stream, math.min(wanted, most_of_one) - 1)
  end
  own(stream, first, last or first)
end

-- Heads that nobody had before, one of each stream: nearly all are.
local function lease_heads(streams)
  local heads, ids = {}, {}
  for i, stream in ipairs(streams) do
    heads[i] = first_of(stream, 1)[1]
    if heads[i] then
      local _, _, id = split(heads[i])
      ids[#ids + 1] = id
    end
  end
  local records, next_record = fields_of(EVENTS, ids), 1
  for i, stream in ipairs(streams) do
    local eid = heads[i]
    if not eid then
      unschedule(stream)
    else
      local record = records[next_record]
      next_record = next_record + 1
      local not_before, expires = 0, 0
      if record then
        local _, moment, over = parse(record)
        not_before, expires = moment, over
      end
      if not record or is_stale(eid, expires) then lease_stream(stream, nil, 1)
      elseif not_before > now then schedule(stream, not_before)
      else
        lease_one(eid, record)
        own(stream, eid, eid)
      end
    end
  end
end

local nothing_due = {}  -- by lane

local function take(from, wanted)
  if wanted <= 0 or nothing_due[from] then return end
  local before = #leased
  local streams = call('ZRANGEBYSCORE', SCHEDULE[from], '-inf', now, 'LIMIT', 0, wanted)
  nothing_due[from] = #streams < wanted
  if #streams == 0 then return end
  local owners, plain = fields_of(OWNERS, streams), {}
  for i, stream in ipairs(streams) do
    if most_of_one == 1 and not owners[i] then
      plain[#plain + 1] = stream
    elseif #leased - before + #plain < wanted then
      lease_stream(stream, owners[i], wanted - (#leased - before) - #plain)
    else
      nothing_due[from] = false
    end
  end
  lease_heads(plain)
  save_schedules()
  with_all('HSET', OWNERS, owned)
  owned = {}
end

-- --- the turn

local settled = #ARGV > 8 and settle_all() or {}

for i, from in ipairs(LANES) do take(from, math.min(tonumber(ARGV[i + 1]), most - #leased)) end
for _, from in ipairs(LANES) do take(from, most - #leased) end

local due = -1
for _, from in ipairs(LANES) do
  local first = call('ZRANGE', SCHEDULE[from], 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if due < 0 or wait < due then due = wait end
  end
end

if #settled > 0 then
  local old = call('ZRANGEBYSCORE', IDS, '-inf', now, 'LIMIT', 0, 2 * #settled)
  with_all('ZREM', IDS, old)
end
save_counts()
return {settled, due, leased}

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
--              | 'd' dead, argument is the reason
-- Return     { for each result 1 settled | 0 refused, ms until something is due (-1: nothing waits), deliveries }
--            delivery = { eid, token, record, attempts that failed, holders that died on it }
-- Twice      the second time the results are refused, for their tokens are gone, and further deliveries are leased;
--            those of a lost answer come back when their leases end.

local lease, most, poison = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
local most_of_one, most_logged = tonumber(ARGV[7]), tonumber(ARGV[8])
local HISTORY = 2048  -- bytes of it that are kept of one event

-- --- settling

local given_up, released, wait_until = {}, {}, {}

local function is_mine(stream, token, eid)
  if given_up[stream] == token then return true end
  local owner = call('HGET', OWNERS, stream)
  local holder, _, first = string.match(owner or '', '^(%d+) (%d+) (.*)$')
  if holder ~= token then
    -- Late, so it did not die on it, as whoever leased it next had to think.
    if first == eid and tonumber(call('HGET', ATTEMPTS, eid .. '\2') or 0) > 0 then
      call('HINCRBY', ATTEMPTS, eid .. '\2', -1)
    end
    return false
  end
  call('HDEL', OWNERS, stream)
  given_up[stream] = token
  released[#released + 1] = stream
  return true
end

local function history_with(eid, told)
  local before = call('HGET', ATTEMPTS, eid .. '\3') or ''
  if told == '' then return before end
  local line = string.format('%d %s\n', now, string.gsub(told, '\n', ' '))
  if #before + #line > HISTORY then
    before = string.match(string.sub(before, #before + #line - HISTORY + 1), '\n(.*)$') or ''
  end
  return before .. line
end

local function note(eid, told)
  if told ~= '' then call('HSET', ATTEMPTS, eid .. '\3', history_with(eid, told)) end
end

local function erase(id, record, recognised_until, endpoints)
  count('bytes', -#record)
  let_go(id, endpoints, recognised_until)
end

-- Delivered, or not worth sending any more.
local function leaves(eid, id, record, how, told)
  local accepted, _, _, recognised_until, endpoints, kept = parse(record)
  if not leave_queue(eid, kept) then return false end
  if most_logged > 0 then
    local before = call('HMGET', ATTEMPTS, eid, eid .. '\3')
    remember(LOG, most_logged, id, accepted, how, before[1] or 0, told, before[2])
  end
  forget_attempts(eid)
  erase(id, record, recognised_until, endpoints)
  count(how)
  return true
end

local function bury(eid, record, reason, told)
  local _, _, _, _, _, kept = parse(record)
  if not leave_queue(eid, kept) then return false end
  note(eid, told)
  call('HDEL', ATTEMPTS, eid .. '\2', eid .. '\4')
  call('ZADD', DEAD, now, eid)
  call('HSET', REASONS, eid, reason)
  count('dead')
  return true
end

local function settle(token, eid, outcome, argument, told)
  local stream, _, id = split(eid)
  if not is_mine(stream, token, eid) then return 0 end
  if outcome == 'r' or outcome == 'p' then
    if outcome == 'r' then
      call('HINCRBY', ATTEMPTS, eid, 1)
      count('retried')
    end
    call('HDEL', ATTEMPTS, eid .. '\2')
    note(eid, told)
    wait_until[stream] = math.max(wait_until[stream] or 0, now + tonumber(argument))
    return 1
  end
  local record = call('HGET', EVENTS, id)
  if not record then return 0 end
  if outcome == 'o' then return leaves(eid, id, record, 'delivered', told) and 1 or 0 end
  return bury(eid, record, argument, told) and 1 or 0
end

-- --- leasing

-- Whether this event is no longer worth sending.
local function is_stale(eid, expires)
  return expires > 0 and expires <= now and call('HEXISTS', ATTEMPTS, eid .. '\4') == 0
end

-- The head of a due stream that is worth sending; what is stale, or has killed its holders, is cleared away first.
local function worth_sending(stream)
  local owner = call('HGET', OWNERS, stream)
  local left_behind
  if owner then
    left_behind = string.match(owner, '^%d+ %d+ (.*)$')
    call('HDEL', OWNERS, stream)
  end
  for _ = 1, 100 do
    local eid = first_of(stream, 1)[1]
    if not eid then return nil end
    local _, _, id = split(eid)
    local record = call('HGET', EVENTS, id)
    local _, not_before, expires = parse(record)
    if not_before > now then return nil end
    local deaths = 0
    if eid == left_behind then deaths = call('HINCRBY', ATTEMPTS, eid .. '\2', 1) end
    if is_stale(eid, expires) then
      leaves(eid, id, record, 'expired', '')
    elseif deaths >= poison then
      bury(eid, record, 'its delivery ended ' .. poison .. ' processes', '')
    else
      return eid, record
    end
  end
end

local token
local function new_token()
  token = token or string.format('%d', call('HINCRBY', COUNTS, 'tok', 1))
  return token
end

local leased = {}

local function lease_one(eid, record)
  local before = call('HMGET', ATTEMPTS, eid, eid .. '\2')
  leased[#leased + 1] = {eid, new_token(), record, before[1] or '0', before[2] or '0'}
  return tonumber(before[2] or 0)
end

-- What comes after the head, as far as it may be sent now.
local function lease_more(stream, left)
  local last
  for i, eid in ipairs(first_of(stream, left + 1)) do
    if i > 1 then
      local record = record_of(eid)
      local _, not_before, expires = parse(record)
      if not_before > now or is_stale(eid, expires) then break end
      lease_one(eid, record)
      last = eid
    end
  end
  return last
end

-- How many it leased.
local function lease_stream(stream, left)
  local before = #leased
  local first, record = worth_sending(stream)
  if not first then
    schedule_next(stream)
    return 0
  end
  local deaths, last = lease_one(first, record), nil
  -- What may have ended a process goes alone: it must not take others along.
  if deaths == 0 and left > 1 and most_of_one > 1 then
    last = lease_more(stream, math.min(left, most_of_one) - 1)
  end
  local _, seq = split(last or first)
  call('ZADD', lane(stream), now + lease, stream)
  call('HSET', OWNERS, stream, string.format('%s %d ', new_token(), seq) .. first)
  return #leased - before
end

local function take(from, wanted)
  if wanted <= 0 then return end
  for _, stream in ipairs(call('ZRANGEBYSCORE', SCHEDULE[from], '-inf', now, 'LIMIT', 0, wanted)) do
    if wanted <= 0 then return end
    wanted = wanted - lease_stream(stream, wanted)
  end
end

-- --- the turn

local settled = {}
for i = 9, #ARGV, 5 do
  settled[#settled + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
for _, stream in ipairs(released) do
  if wait_until[stream] then call('ZADD', lane(stream), wait_until[stream], stream) else schedule_next(stream) end
end

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

local old = #settled > 0 and call('ZRANGEBYSCORE', IDS, '-inf', now, 'LIMIT', 0, 2 * #settled) or {}
if #old > 0 then call('ZREM', IDS, unpack(old)) end
save_counts()
return {settled, due, leased}

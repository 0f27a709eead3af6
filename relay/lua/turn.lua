-- Purpose    Settles deliveries that ended and leases the next ones, in one call.
-- Guarantee  Only the holder of a stream's current token settles its head, so a late holder changes nothing; a leased
--            stream is leased to nobody else until its lease ends.
-- KEYS       see partition.lua
-- ARGV       1 lease (ms)  2..4 at least so many of urgent, normal, bulk  5 at most in all (0: only settle)
--            6 holders that may die on one event before it is buried
--            then for each result: stream, token, eid, outcome, argument
--              'o' delivered | 'r' failed, again after argument ms | 'p' put back for argument ms, not counted
--              | 'd' dead, argument is the reason
-- Return     { for each result 1 settled | 0 refused, ms until something is due (-1: nothing waits), deliveries }
--            delivery = { stream, token, eid, content, attempts that failed }
-- Twice      the second time the results are refused, for their tokens are gone, and further deliveries are leased;
--            those of a lost answer come back when their leases end.

local lease, most, poison = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function settle(stream, token, eid, outcome, argument)
  if call('HGET', OWNERS, stream) ~= token .. ' ' .. eid then return 0 end
  call('HDEL', OWNERS, stream)
  if outcome == 'r' or outcome == 'p' then
    if outcome == 'r' then
      call('HINCRBY', ATTEMPTS, eid, 1)
      count('retried')
    end
    call('HDEL', ATTEMPTS, eid .. '\2')
    call('ZADD', lane(stream), now + tonumber(argument), stream)
    return 1
  end
  local record = call('HGET', EVENTS, eid)
  if outcome == 'o' then
    leave_queue(stream, eid, record)
    erase(eid)
    count('delivered')
  else
    bury(stream, eid, record, argument)
  end
  schedule_next(stream)
  return 1
end

-- The head of a due stream that is worth sending; what is stale, or has killed its holders, is cleared away first.
local function worth_sending(stream)
  local owner = call('HGET', OWNERS, stream)
  local left_behind = owner and string.match(owner, '^%d+ (.*)$')
  call('HDEL', OWNERS, stream)
  for _ = 1, 100 do
    local eid = head(stream)
    if not eid then return nil end
    local record = call('HGET', EVENTS, eid)
    local not_before, expires, _, at = parse(record)
    if not_before > now then return nil end
    if expires > 0 and expires <= now then
      leave_queue(stream, eid, record)
      erase(eid)
      count('expired')
    elseif eid == left_behind and call('HINCRBY', ATTEMPTS, eid .. '\2', 1) >= poison then
      bury(stream, eid, record, 'its delivery ended ' .. poison .. ' processes')
    else
      return eid, string.sub(record, at)
    end
  end
end

local function lease_head(stream)
  local eid, content = worth_sending(stream)
  if not eid then
    schedule_next(stream)
    return nil
  end
  local token = call('HINCRBY', COUNTS, 'tok', 1)
  call('ZADD', lane(stream), now + lease, stream)
  call('HSET', OWNERS, stream, token .. ' ' .. eid)
  return {stream, token, eid, content, call('HGET', ATTEMPTS, eid) or '0'}
end

local leased = {}
local function take(from, wanted)
  if wanted <= 0 then return end
  for _, stream in ipairs(call('ZRANGEBYSCORE', SCHEDULE[from], '-inf', now, 'LIMIT', 0, wanted)) do
    leased[#leased + 1] = lease_head(stream)
  end
end

local settled = {}
for i = 7, #ARGV, 5 do
  settled[#settled + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
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
return {settled, due, leased}

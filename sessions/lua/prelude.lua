-- Shared by every script of sessions/registry.py, which passes the same keys to all of them:
--
-- KEYS[1] workers   HASH  worker -> {"instance","url","capacity","existing"}
-- KEYS[2] beats     ZSET  worker -> when it stops being live
-- KEYS[3] wanted    HASH  session -> JSON of what is known about it; a session is wanted while it stands here
-- KEYS[4] states    HASH  session -> "<since> <JSON of state and phone>"
-- KEYS[5] owners    HASH  session -> "<fence> <worker>", its holder, or its last one if nobody has it now
-- KEYS[6] leases    ZSET  session -> when its lease ends or ended; those that workers of ours may adopt
-- KEYS[7] observed  ZSET  the same for sessions of existing workers: their login is on that machine, nobody can adopt it
-- KEYS[8] held      ZSET  "<worker> <session>", all scores 0: who holds what, found by prefix
-- KEYS[9] fence     the last fence that was given to anybody
-- KEYS[10] counts   HASH  state -> how many entries of `states` have it; states that are not known count as `other`
--
-- Moments are milliseconds of the scripts' time (sluice/store/lua/clock.lua). Always true: a wanted session is in exactly
-- one of `leases` and `observed`; `counts` sums up `states`; `held` has "<worker> <session>" exactly when `owners` names
-- that worker.

local workers, beats, wanted, states = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owners, leases, observed, held, last_fence = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local counts = KEYS[10]

-- Lua would write 1.7e+12.
local function digits(number)
  return string.format('%.0f', number)
end

local function worker_of(id)
  local record = redis.call('HGET', workers, id)
  return record and cjson.decode(record)
end

local function beat_of(id)
  return tonumber(redis.call('ZSCORE', beats, id) or 0)
end

-- Is it live, and still the process it was?
local function is_current(id, instance)
  local worker = worker_of(id)
  return worker and worker.instance == instance and beat_of(id) > now
end

local function holder_of(session)
  local record = redis.call('HGET', owners, session)
  if not record then return nil end
  local fence, id = string.match(record, '^(%d+) (.*)$')
  return id, tonumber(fence)
end

local function lease_of(session)
  return tonumber(redis.call('ZSCORE', leases, session) or redis.call('ZSCORE', observed, session) or 0)
end

-- {worker, url, fence, milliseconds left}, or nil when nobody has it.
local function owner_of(session)
  local id, fence = holder_of(session)
  local left = lease_of(session) - now
  if not id or left <= 0 then return nil end
  return {id, worker_of(id).url, fence, left}
end

-- A space ends the worker's name, and '!' is the byte after the space.
local function sessions_of(id)
  local members = redis.call('ZRANGEBYLEX', held, '[' .. id .. ' ', '(' .. id .. '!')
  for i, member in ipairs(members) do members[i] = string.sub(member, #id + 2) end
  return members
end

local function load_of(id)
  return redis.call('ZLEXCOUNT', held, '[' .. id .. ' ', '(' .. id .. '!')
end

-- {worker, instance, load, capacity} of every live worker, one after the other.
local function loads(with_existing)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', beats, '(' .. digits(now), '+inf')) do
    local worker = worker_of(id)
    if with_existing or not worker.existing then
      for _, value in ipairs({id, worker.instance, load_of(id), worker.capacity}) do table.insert(found, value) end
    end
  end
  return found
end

-- What a worker may say of a session is its own affair; what is counted, and becomes a label of a metric, is not.
local KNOWN = {}
for _, state in ipairs({'created', 'starting', 'qr_scanning', 'authenticated', 'connected', 'disconnected', 'logged_out',
                        'failed', 'error', 'unknown'}) do KNOWN[state] = true end

-- `record` is an entry of `states`.
local function state_in(record)
  return cjson.decode(string.match(record, '^%d+ (.*)$'))[1]
end

local function count(record, change)
  local state = state_in(record)
  redis.call('HINCRBY', counts, KNOWN[state] and state or 'other', change)
end

local function drop_holder(session)
  local id = holder_of(session)
  if not id then return end
  redis.call('HDEL', owners, session)
  redis.call('ZREM', held, id .. ' ' .. session)
end

local function release(session)
  drop_holder(session)
  redis.call('ZREM', observed, session)
  redis.call('ZADD', leases, digits(now), session)
end

local function forget(session)
  drop_holder(session)
  redis.call('HDEL', wanted, session)
  local state = redis.call('HGET', states, session)
  if state then count(state, -1) end
  redis.call('HDEL', states, session)
  redis.call('ZREM', leases, session)
  redis.call('ZREM', observed, session)
end

-- The fence is never below the clock: a store that lost its data, or a replica that missed the last grants, goes on
-- with greater ones. One counter for all sessions, so a forgotten session needs no memory of its own.
local function grant(session, id, till, existing)
  drop_holder(session)
  local fence = math.max(now, tonumber(redis.call('GET', last_fence) or 0) + 1)
  redis.call('SET', last_fence, digits(fence))
  redis.call('HSET', owners, session, digits(fence) .. ' ' .. id)
  redis.call('ZADD', held, 0, id .. ' ' .. session)
  redis.call('ZREM', existing and leases or observed, session)
  redis.call('ZADD', existing and observed or leases, digits(till), session)
  return fence
end

local function note(session, report)
  local before = redis.call('HGET', states, session)
  if before and string.match(before, '^%d+ (.*)$') == report then return end
  local after = digits(now) .. ' ' .. report
  if before then count(before, -1) end
  count(after, 1)
  redis.call('HSET', states, session, after)
end

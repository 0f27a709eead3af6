-- Purpose    A worker says that it lives and what it runs; it learns what it has to run.
-- Guarantee  Every lease in the answer was renewed in this step, so a worker may count its lease from the moment it
--            sent the beat. A session reported under another fence is neither renewed nor answered: the worker stops
--            that one first. A lease that the worker does not report yet (just placed) is renewed and answered.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  3 lease in ms  4 most orphans to answer  5 number of reports
--            then per report: session, fence, JSON of state and phone; then per ended session: session, fence
-- Return     nil when this is not a live worker, or not this instance of it; else
--            {{session, fence, …}, {orphan, …}, {worker, instance, load, capacity, …}, {orphan}}: what it has; what nobody
--            has; only if there are such, who might take them, and the one that has waited longest if that is a lease
-- Twice      renews a moment later; ended sessions are gone already.

local id, lease = ARGV[1], tonumber(ARGV[3])
if not is_current(id, ARGV[2]) then return false end
local till = digits(now + lease)
redis.call('ZADD', beats, till, id)

local reports = {}
local ended = 6 + 3 * ARGV[5]
for i = 6, ended - 1, 3 do reports[ARGV[i]] = {fence = tonumber(ARGV[i + 1]), text = ARGV[i + 2]} end
for i = ended, #ARGV, 2 do
  local holder, fence = holder_of(ARGV[i])
  if holder == id and fence == tonumber(ARGV[i + 1]) then forget(ARGV[i]) end
end

local answer = {}
for _, session in ipairs(sessions_of(id)) do
  local _, fence = holder_of(session)
  local report = reports[session]
  if lease_of(session) <= now then
    release(session)
  elseif not report or report.fence == fence then
    redis.call('ZADD', leases, till, session)
    if report then note(session, report.text) end
    table.insert(answer, session)
    table.insert(answer, fence)
  end
end

local orphans = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, ARGV[4])
if #orphans == 0 then return {answer, {}, {}, {}} end
local waited = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now - lease), 'LIMIT', 0, 1)
return {answer, orphans, loads(false), waited}

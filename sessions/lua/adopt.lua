-- Purpose    A worker takes orphans over.
-- Guarantee  First come, first served: a session with a live lease is left alone. Never more than the worker's capacity.
--            A new fence with each.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  then the sessions
-- Return     nil when this is not a live worker, or not this instance of it; else {session, fence, …}, what it has now
-- Twice      what it got the first time is answered again with the same fence.

local id = ARGV[1]
if not is_current(id, ARGV[2]) then return false end
local capacity, load, till = worker_of(id).capacity, load_of(id), beat_of(id)

local answer = {}
for i = 3, #ARGV do
  local session = ARGV[i]
  local lease = redis.call('ZSCORE', leases, session)
  local holder, fence = holder_of(session)
  local granted = nil
  if lease and tonumber(lease) > now then
    granted = holder == id and fence
  elseif lease and (holder == id or load < capacity) then
    if holder ~= id then load = load + 1 end
    granted = grant(session, id, till, false)
  end
  if granted then
    table.insert(answer, session)
    table.insert(answer, granted)
  end
end
return answer

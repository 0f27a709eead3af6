-- Purpose    How the sessions stand in numbers, and workers, a page of them: costs as much as it returns.
-- Guarantee  All of an answer as of one moment; who asks page after page gets every worker that is there all the while.
--            Reads only.
-- KEYS       see prelude.lua
-- ARGV       1 where to go on ('0': the beginning)  2 about how many workers
-- Return     {now, where to go on ('0': that was all), {"o <state>" or "u <state>", sessions, …}, {worker, url, capacity,
--             existing, draining, memory, CPU, when it stops or stopped being live, sessions that it owns, that are only
--             reserved there, that wait for it, milliseconds for which it is to drain or -1, events that it could not pass
--             on lately, …}}
-- Twice      is a second look.

local go_on, known = unpack(call('HSCAN', fleet, ARGV[1], 'COUNT', ARGV[2]))
local workers = {}
for i = 1, #known, 2 do
  local id, worker = known[i], cmsgpack.unpack(known[i + 1])
  local load = call('HMGET', loads, id, id .. ' r', id .. ' w')
  local n = #workers
  workers[n + 1], workers[n + 2], workers[n + 3], workers[n + 4] = id, worker[2], worker[3], worker[4]
  workers[n + 5], workers[n + 6], workers[n + 7] = worker[5], tostring(worker[6]), tostring(worker[7])
  workers[n + 8] = call('ZSCORE', live, id) or call('ZSCORE', lost, id) or '0'
  workers[n + 9], workers[n + 10], workers[n + 11] = load[1] or '0', load[2] or '0', load[3] or '0'
  workers[n + 12] = (worker[9] or 0) > 0 and now - worker[9] or -1
  workers[n + 13] = tonumber(call('HGET', dropped, id) or 0)
end
return {now, go_on, call('HGETALL', numbers), workers}

-- Purpose    How the sessions stand in numbers, and all workers: costs as much as there are workers, not sessions.
-- Guarantee  All of it as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       none
-- Return     {now, {"o <state>" or "u <state>", sessions, …}, {worker, url, capacity, existing, draining, memory, CPU, when it
--             stops being live, sessions that it owns, that are only reserved there, that wait for it, …}}
-- Twice      is a second look.

local ends, load = {}, {}
for _, key in ipairs({lost, live}) do
  local found = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do ends[found[i]] = found[i + 1] end
end
local flat = call('HGETALL', loads)
for i = 1, #flat, 2 do load[flat[i]] = tonumber(flat[i + 1]) end

local workers = {}
local known = call('HGETALL', fleet)
for i = 1, #known, 2 do
  local id, worker = known[i], cmsgpack.unpack(known[i + 1])
  for _, value in ipairs({
    id, worker[2], worker[3], worker[4], worker[5], tostring(worker[6]), tostring(worker[7]), ends[id] or '0',
    load[id] or 0, load[id .. ' r'] or 0, load[id .. ' w'] or 0,
  }) do table.insert(workers, value) end
end
return {now, call('HGETALL', numbers), workers}

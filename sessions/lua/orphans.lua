-- Purpose    What has to be known to grant orphans.
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 most orphans
-- Return     {{session, workspace, worker to avoid, …}, {worker, instance, held, capacity, …},
--             {worker, workspace, sessions of it there, …}}: those who have waited longest, the least loaded with room, and
--             what these have of the workspaces
-- Twice      is a second look.

local CANDIDATES = 8
local found, workspaces, candidates, alike = {}, {}, {}, {}
local due = call('ZRANGEBYSCORE', orphans, '-inf', digits(now), 'LIMIT', 0, ARGV[1])
if #due == 0 or call('ZCARD', room) == 0 then return {{}, {}, {}} end
for _, session in ipairs(due) do
  local record = record_of(session)
  if record.workspace ~= '' then workspaces[record.workspace] = true end
  for _, value in ipairs({session, record.workspace, record.avoid}) do table.insert(found, value) end
end
for _, id in ipairs(call('ZRANGE', room, 0, CANDIDATES - 1)) do
  if has_room(id) then
    local worker = worker_of(id)
    for _, value in ipairs({id, worker.instance, taken_by(id), worker.capacity}) do table.insert(candidates, value) end
    for workspace in pairs(workspaces) do
      local from, to = range_of(prefix_of(id, workspace))
      local there = call('ZLEXCOUNT', places, from, to)
      if there > 0 then
        for _, value in ipairs({id, workspace, there}) do table.insert(alike, value) end
      end
    end
  end
end
return {found, candidates, alike}

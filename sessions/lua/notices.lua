-- Purpose    What Laravel is to be told of sessions that were ended; and that it was told.
-- Guarantee  A notice stays until it was told, or the session is wanted again.
-- KEYS       see prelude.lua
-- ARGV       1 how many at most  then per notice that was told: session, since when it stood there (ms)
-- Return     {session, since (ms), workspace, reason, who, …}
-- Twice      the second one finds them gone.

for i = 2, #ARGV, 2 do
  local packed = call('HGET', notices, ARGV[i])
  if packed and cmsgpack.unpack(packed)[1] == ARGV[i + 1] then call('HDEL', notices, ARGV[i]) end
end
local rows = {}
if tonumber(ARGV[1]) > 0 and call('EXISTS', notices) == 1 then
  local found = call('HRANDFIELD', notices, ARGV[1], 'WITHVALUES')
  for i = 1, #found, 2 do
    table.insert(rows, found[i])
    local at, workspace, reason, who = unpack(cmsgpack.unpack(found[i + 1]))
    for _, value in ipairs({at, workspace, reason, who or ''}) do table.insert(rows, value) end
  end
end
return rows

-- Purpose    Sessions on existing workers whose phone another session has: both are connected.
-- Guarantee  Each as of this moment: a mark whose reason is gone is taken away. Whoever claims them has them to himself: who
--            claims meanwhile is told of others only.
-- KEYS       see prelude.lua
-- ARGV       1 how many at most  2 for how many milliseconds they are claimed; 0: they are only looked at
-- Return     {session, the one that stays in its place, worker, workspace, …}, those that wait longest first
-- Twice      is a second look; a second claim gets nothing.

local rows, claim = {}, tonumber(ARGV[2])
for _, session in ipairs(call('ZRANGEBYSCORE', rivals, '-inf', claim > 0 and digits(now) or '+inf', 'LIMIT', 0, ARGV[1])) do
  local record = record_of(session)
  local prefix = record and record.rival ~= '' and owns(record) and phone_prefix(record)
  if prefix and call('ZSCORE', phones, prefix .. record.session) and call('ZSCORE', phones, prefix .. record.rival) then
    for _, value in ipairs({session, record.rival, record.worker, record.workspace}) do table.insert(rows, value) end
    if claim > 0 then call('ZADD', rivals, digits(now + claim), session) end
  elseif record then
    unrival(record)
    save(record)
  end
end
return done(rows)

-- Purpose    Phones with which a session has become connected, or that one had which is just created, and the sessions that
--            have had them and are not connected: for the cleaner, which looks at these now.
-- Guarantee  Whoever claims a phone has it to himself for that long; who claims meanwhile gets others. It stays until
--            somebody says that it was looked at, unless it has come up anew.
-- KEYS       see prelude.lua
-- ARGV       1 how many at most  2 for how many milliseconds they are claimed  then the keys of phones that were looked at
-- Return     {{key, a session that is connected with it or '', {other sessions}}, …}
-- Twice      the second one gets nothing.

local OF_ONE = 16
for i = 3, #ARGV do
  local due = call('ZSCORE', phones_due, ARGV[i])
  if due and tonumber(due) > now then call('ZREM', phones_due, ARGV[i]) end
end
local found = {}
for _, prefix in ipairs(call('ZRANGEBYSCORE', phones_due, '-inf', digits(now), 'LIMIT', 0, ARGV[1])) do
  local from, to = range_of(prefix)
  local idle = call('ZRANGEBYLEX', idle_phones, from, to, 'LIMIT', 0, OF_ONE)
  for i, member in ipairs(idle) do idle[i] = string.sub(member, #prefix + 1) end
  local connected = call('ZRANGEBYLEX', phones, from, to, 'LIMIT', 0, 1)[1]
  table.insert(found, {prefix, connected and string.sub(connected, #prefix + 1) or '', idle})
  call('ZADD', phones_due, digits(now + ARGV[2]), prefix)
end
return done(found)

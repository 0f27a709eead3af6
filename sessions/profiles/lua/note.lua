-- Purpose    What went wrong with a session's profile, for people, until it has not happened for a while.
-- Guarantee  At most ARGV[4] are kept: what ended goes first, then what happened longest ago.
-- KEYS       1 troubles  HASH  kind, space, session -> packed: how often, first and last moment (ms), the reason
-- ARGV       1 kind  2 session  3 reason  4 how many to keep  5 milliseconds after which one has ended
-- Return     how often it has happened
-- Twice      counts it twice.

local troubles, field, most, kept_for = KEYS[1], ARGV[1] .. ' ' .. ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local packed = call('HGET', troubles, field)
local times, first, last = 0, now, now
if packed then times, first, last = unpack(cmsgpack.unpack(packed)) end
if now - last > kept_for then times, first = 0, now end

if not packed and call('HLEN', troubles) >= most then
  local all, oldest, oldest_at = call('HGETALL', troubles), nil, nil
  for i = 1, #all, 2 do
    local at = cmsgpack.unpack(all[i + 1])[3]
    if now - at > kept_for then
      call('HDEL', troubles, all[i])
    elseif not oldest_at or at < oldest_at then
      oldest, oldest_at = all[i], at
    end
  end
  if call('HLEN', troubles) >= most then call('HDEL', troubles, oldest) end
end
call('HSET', troubles, field, cmsgpack.pack({times + 1, first, now, ARGV[3]}))
return times + 1

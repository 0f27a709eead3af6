-- Purpose    A worker says that it is there.
-- Guarantee  Under a new instance the old process is gone: what it held is released in this same step.
--            The same live instance keeps what it holds (its leases are not renewed here; a beat does that).
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  3 its record (JSON)  4 lease in ms
-- Return     1
-- Twice      the second one finds the same live instance and changes nothing but the beat.

local SHOWN_AFTER_LAPSE = 3600 * 1000

local id, instance = ARGV[1], ARGV[2]
if not is_current(id, instance) then
  for _, session in ipairs(sessions_of(id)) do release(session) end
end
redis.call('HSET', workers, id, ARGV[3])
redis.call('ZADD', beats, digits(now + ARGV[4]), id)

for _, lost in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', digits(now - SHOWN_AFTER_LAPSE))) do
  redis.call('HDEL', workers, lost)
  redis.call('ZREM', beats, lost)
end
return 1

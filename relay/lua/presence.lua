-- Purpose    Notes that a relay process is alive, and counts those that are.
-- Guarantee  A process that has not reported for its time is not counted.
-- KEYS       1 ZSET name -> until when it counts as alive (ms)
-- ARGV       1 name ('': only count)  2 counts as alive for (ms)
-- Return     how many are alive
-- Twice      changes nothing more.

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1]) end
return redis.call('ZCARD', KEYS[1])

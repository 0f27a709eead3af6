-- Purpose    Tells how many gateways there are, and that this one is.
-- Guarantee  A gateway that has said nothing for as long as it may is not counted.
-- KEYS       1 ZSET gateway -> when it last said so (ms)
-- ARGV       1 this gateway  2 ms that a gateway may say nothing
-- Return     how many there are, this one included
-- Twice      is the same as once.

redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] + offset)
return redis.call('ZCARD', KEYS[1])

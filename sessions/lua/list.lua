-- Purpose    Everything, for people: costs as much as there are sessions and workers.
-- Guarantee  All of it as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       none
-- Return     {now, workers, beats, wanted, states, owners, leases, observed, held}, each flat
-- Twice      is a second look.

return {
  now,
  redis.call('HGETALL', workers),
  redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES'),
  redis.call('HGETALL', wanted),
  redis.call('HGETALL', states),
  redis.call('HGETALL', owners),
  redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', observed, 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', held, 0, -1),
}

-- Purpose    Sessions that should run, wherever there is capacity.
-- Guarantee  One that is wanted already keeps its owner and what is known about it.
-- KEYS       see prelude.lua
-- ARGV       1 JSON of the first state  then per session: session, what is known about it (JSON)
-- Return     how many were new
-- Twice      the second one adds nothing.

local new = 0
for i = 2, #ARGV, 2 do
  if redis.call('HSETNX', wanted, ARGV[i], ARGV[i + 1]) == 1 then
    note(ARGV[i], ARGV[1])
    redis.call('ZADD', leases, digits(now), ARGV[i])
    new = new + 1
  end
end
return new

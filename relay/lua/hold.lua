-- Purpose    Holds the circuit of an endpoint open or closed, or lets it go, on the word of a person.
-- Guarantee  Results of what was sent before count no more. Let go of while open, it sends probes first.
-- KEYS       1 HASH, see circuit.lua
-- ARGV       1 'O' hold open | 'C' hold closed | '' let go  2 why (for people)
-- Return     1 changed | 0 was so before
-- Twice      changes nothing more.

local K, wanted = KEYS[1], ARGV[1]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local held = call('HGET', K, 'held') or ''
if held == wanted then return 0 end

call('HINCRBY', K, 'gen', 1)
call('HSET', K, 'since', now)
call('HDEL', K, 'slot', 'o0', 'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7', 'o8', 'o9',
  'k0', 'k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8', 'k9')
if wanted ~= '' then
  call('HSET', K, 'held', wanted, 'why', ARGV[2])
else
  call('HDEL', K, 'held', 'why', 'trips', 'out', 'ok')
  if held == 'O' then call('HSET', K, 'state', 'O', 'until', now)
  else
    call('HDEL', K, 'until')
    call('HSET', K, 'state', 'C')
  end
end
return 1

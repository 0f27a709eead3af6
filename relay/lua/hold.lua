-- Purpose    Holds the circuit of an endpoint open or closed, or releases it, because a person said so.
-- Guarantee  Results of what was sent before no longer count. Released while it was held open, it sends probes first.
-- KEYS       1 HASH, see circuit.lua
-- ARGV       1 'open' hold it open | 'closed' hold it closed | '' release it  2 why (for people)
-- Return     1 changed | 0 it was so before
-- Twice      changes nothing more.

local K, wanted = KEYS[1], ARGV[1]
local CLOSED, IS_OPEN, RELEASED = 'closed', 'open', ''
local held = call('HGET', K, 'held') or RELEASED
if held == wanted then return 0 end

call('HINCRBY', K, 'generation', 1)
call('HSET', K, 'since', now)
call('HDEL', K, 'slot', 's0', 's1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9',
  'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9')
if wanted ~= RELEASED then
  call('HSET', K, 'held', wanted, 'why', ARGV[2])
else
  call('HDEL', K, 'held', 'why', 'trips', 'probes_out', 'probes_ok')
  if held == IS_OPEN then call('HSET', K, 'state', IS_OPEN, 'until', now)
  else
    call('HDEL', K, 'until')
    call('HSET', K, 'state', CLOSED)
  end
end
return 1

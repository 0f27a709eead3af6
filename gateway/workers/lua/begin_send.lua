-- Purpose    Finds an attempt to send the same that nobody waits for any more, or notes that a new one begins.
-- Guarantee  Of two who ask at once one gets the found attempt; the other begins its own.
-- KEYS       1 HASH of the attempts of one session to send one body: attempt -> "<runner>\0<caller>\0<outcome>"
--                runner   the gateway that makes it
--                caller   the gateway whose caller waits for its outcome; empty: that caller has hung up
--                outcome  empty until it has ended
-- ARGV       1 the new attempt  2 this gateway  3 ms that it is kept  4 a gateway that is known to be gone, or empty
--            5 "1": those for which callers of other gateways wait are others' sends; "0": that is not certain
-- Return     {}: the new one is noted. { attempt, its record }: this gateway waits for that one from now on.
--            { "", gateway }: that one may be gone, and its caller with it: nothing is noted
-- Twice      is the same as once for a new one; one that was found is found as this gateway's own, and is not found again.

local waited_for = ''
local found = call('HGETALL', KEYS[1])
for n = 1, #found, 2 do
  local runner, caller, outcome = string.match(found[n + 1], '^(%Z*)%z(%Z*)%z(.*)$')
  if found[n] == ARGV[1] then return {} end
  if caller == '' or caller == ARGV[4] then
    call('HSET', KEYS[1], found[n], runner .. '\0' .. ARGV[2] .. '\0' .. outcome)
    return {found[n], found[n + 1]}
  end
  if caller ~= ARGV[2] then waited_for = caller end
end
if waited_for ~= '' and ARGV[5] == '0' then return {'', waited_for} end
call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '\0' .. ARGV[2] .. '\0')
call('PEXPIRE', KEYS[1], ARGV[3] + offset)
return {}

-- Purpose    What is wrong on one machine, for the gateway of another one that tells people.
-- Guarantee  There are never more machines than allowed; those whose report does not count any more are erased.
-- KEYS       1 machines  HASH  machine -> when it reported (ms), a blank, what is wrong on it (JSON)
-- ARGV       1 machine  2 the report (JSON)  3 the most machines  4 for how long one counts (ms)
-- Return     1: done; 0: there are too many
-- Twice      writes the same once more.

local machines = KEYS[1]
local all, others = call('HGETALL', machines), 0
for i = 1, #all, 2 do
  local at = string.match(all[i + 1], '^(%d+) ')
  if all[i] == ARGV[1] or not at or tonumber(at) + ARGV[4] <= now then
    call('HDEL', machines, all[i])
  else
    others = others + 1
  end
end
if others >= tonumber(ARGV[3]) then return 0 end
call('HSET', machines, ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
call('PEXPIRE', machines, 10 * ARGV[4])
return 1

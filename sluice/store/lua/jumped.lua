-- Purpose    Notes that the store's clock has jumped.
-- Guarantee  Of several processes that notice the same jump one is told that it is new.
-- KEYS       1 STRING "<when it was noticed, ms> <by how many ms, less than 0: back>"
-- ARGV       1 by how many ms  2 how long to keep the note (ms)
-- Return     1 new | 0 somebody has noted it before
-- Twice      is 0 the second time.

local NOTICED_WITHIN, AS_LARGE_WITHIN = 10000, 2000  -- ms
local at, by = string.match(call('GET', KEYS[1]) or '', '^(%d+) (-?%d+)$')
if at and now - at < NOTICED_WITHIN and math.abs(by - ARGV[1]) < AS_LARGE_WITHIN then return 0 end
call('SET', KEYS[1], string.format('%d %d', now, ARGV[1]), 'PX', ARGV[2])
return 1

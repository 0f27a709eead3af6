-- Purpose    After a backup was restored: fences of starts go on above all that may have been given since.
-- Guarantee  The next fence is `step` microseconds after now, or more.
-- KEYS       see generations.lua
-- ARGV       1 step (us)
-- Return     the fence that counts as the last one
-- Twice      is the same with a later fence.

local fence = digits(math.max(micros, tonumber(call('GET', last_fence) or 0)) + tonumber(ARGV[1]))
call('SET', last_fence, fence)
return fence

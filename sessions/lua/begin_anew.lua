-- Purpose    After a backup was restored: whoever was alive then counts as lost from now on, and fences go on above all
--            that may have been given since.
-- Guarantee  No session has an owner, no place is held, and the next fence is `step` microseconds after now.
-- KEYS       see prelude.lua
-- ARGV       1 step (us)
-- Return     the fence that counts as the last one
-- Twice      is the same with a later fence.

for _, ends in ipairs({live, reserved}) do
  for _, member in ipairs(call('ZRANGE', ends, 0, -1)) do call('ZADD', ends, digits(now), member) end
end
given = math.max(micros, last_given()) + tonumber(ARGV[1])
return done(digits(given))

-- Purpose    A session is not wanted any more.
-- Guarantee  Its lease ends in this step; its worker learns it with the next beat. Its fence is never given again.
-- KEYS       see prelude.lua
-- ARGV       1 session
-- Return     1, or 0 when it was not wanted
-- Twice      the second one finds nothing.

local known = redis.call('HEXISTS', wanted, ARGV[1])
forget(ARGV[1])
return known

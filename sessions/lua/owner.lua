-- Purpose    Who runs this session?
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 session
-- Return     nil when it is not wanted, {} when nobody has it, else {worker, url, fence, milliseconds left}
-- Twice      is a second look.

if redis.call('HEXISTS', wanted, ARGV[1]) == 0 then return false end
return owner_of(ARGV[1]) or {}

-- Purpose    What has to be known to place a session.
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 session
-- Return     {{worker, url, fence, milliseconds left}, {}} when somebody has it,
--            else {{}, {worker, instance, load, capacity, …}} of every live worker
-- Twice      is a second look.

local owner = owner_of(ARGV[1])
if owner then return {owner, {}} end
return {{}, loads(true)}

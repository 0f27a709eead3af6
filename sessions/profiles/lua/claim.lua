-- Purpose    The next start of a session: from now on only it may save the session's profile, or delete it.
-- Guarantee  The latest start wins: fences only grow.
-- KEYS       see generations.lua
-- ARGV       1 session
-- Return     the session, as `told` has it
-- Twice      gives a second fence; the first one is stale then.

local record = record_of(ARGV[1])
record.fence = next_fence()
save(ARGV[1], record)
return told(ARGV[1], record)

-- Purpose    An existing worker has been started, and asks which sessions it is to start.
-- Guarantee  From now on a create of a session that was last there goes nowhere else, with shared profiles too. So who then reads
--            whose sessions are (owner.lua) may tell the worker of what it reads.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 for how many milliseconds it counts as about to start them, unless it is live
-- Return     nothing
-- Twice      counts from the second one.

call('ZREMRANGEBYSCORE', starting, '-inf', digits(now))
call('ZADD', starting, digits(now + ARGV[2]), ARGV[1])

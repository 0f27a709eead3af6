-- Purpose    Sessions that were ended before a moment, for who purges them.
-- Guarantee  As of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 for how long they are ended at least (ms)  2 how many at most
-- Return     {session, since when (ms), …}, those that wait longest first
-- Twice      is a second look.

return call('ZRANGEBYSCORE', ended, '-inf', digits(now - ARGV[1]), 'WITHSCORES', 'LIMIT', 0, ARGV[2])

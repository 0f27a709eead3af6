-- Purpose    A gateway tells of which sessions something was asked or came lately, and which nobody had room for.
-- Guarantee  Only names of known sessions are kept, for an hour; of those without room 1,000, for a minute. What was told
--            says something of a session only from `watched` on: since then no gateway's word was missing for GAP.
-- KEYS       see prelude.lua; then active ZSET session -> when it was busy last; unplaced ZSET session -> when its create
--            was refused last, as all were full; scaling HASH (sessions/shifting.py)
-- ARGV       1 '1': not all are told, so all count as busy  2 number of busy ones  then those  then those without room
-- Return     nothing
-- Twice      notes a later moment.

local active, unplaced, scaling = KEYS[#KEYS - 3], KEYS[#KEYS - 2], KEYS[#KEYS - 1]
local GAP, KEPT, UNPLACED_FOR, UNPLACED_AT_MOST = 10 * 1000, 3600 * 1000, 60 * 1000, 1000
local noted = tonumber(call('HGET', scaling, 'noted') or 0)
if ARGV[1] == '1' or now - noted > GAP then call('HSET', scaling, 'watched', digits(now)) end
call('HSET', scaling, 'noted', digits(now))
local over = 3 + ARGV[2]
for i = 3, over - 1 do
  if call('HEXISTS', records, ARGV[i]) == 1 then call('ZADD', active, digits(now), ARGV[i]) end
end
for i = over, #ARGV do call('ZADD', unplaced, digits(now), ARGV[i]) end
call('ZREMRANGEBYSCORE', active, '-inf', digits(now - KEPT))
call('ZREMRANGEBYSCORE', unplaced, '-inf', digits(now - UNPLACED_FOR))
call('ZREMRANGEBYRANK', unplaced, 0, -1 - UNPLACED_AT_MOST)
return 0

-- Purpose    Notes what has become of an attempt to send, or of who waits for it.
-- Guarantee  Whoever waits for it in another gateway stays noted. What was given to its caller is not found any more.
-- KEYS       1 HASH of attempts, as in begin_send.lua
-- ARGV       1 the attempt  2 this gateway  3 ms that it is kept from now on
--            4 what: "joined" by a caller here | "left" by its caller here | "goes_on" | "ended" with the outcome ARGV[5]
--              | "given" to its caller | "unread" by its caller, who was given the outcome ARGV[5]
-- Return     nothing
-- Twice      is the same as once.

if ARGV[4] == 'unread' then
  call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '\0\0' .. ARGV[5])
  call('PEXPIRE', KEYS[1], ARGV[3] + offset)
  return
end
local record = call('HGET', KEYS[1], ARGV[1])
if not record then return end
if ARGV[4] == 'given' then
  call('HDEL', KEYS[1], ARGV[1])
  return
end
local runner, caller, outcome = string.match(record, '^(%Z*)%z(%Z*)%z(.*)$')
if ARGV[4] == 'left' and caller == ARGV[2] then caller = '' end
if ARGV[4] == 'joined' then caller = ARGV[2] end
if ARGV[4] == 'ended' then outcome = ARGV[5] end
call('HSET', KEYS[1], ARGV[1], runner .. '\0' .. caller .. '\0' .. outcome)
call('PEXPIRE', KEYS[1], ARGV[3] + offset)

-- Purpose    Notes what has come of a send.
-- Guarantee  The first outcome stays. Whether its caller was promised our id is decided with it: afterwards nobody is.
-- KEYS       1 HASH, what is known of one send (hand_over.lua)
-- ARGV       1 what its callers get  2 why it is a dead letter, if its caller was promised our id  3 the same, if not;
--            empty: it is none  4 whom it was given to  5 ms that this is kept
--            6 "1": nobody waits for it any more, so its caller counts as promised
-- Return     { promised, why it is a dead letter }, as noted
-- Twice      is the same as once.

local found = call('HMGET', KEYS[1], 'answer', 'end', 'promised')
local promised, why = found[3] or '', found[2]
if not found[1] then
  if ARGV[6] == '1' and promised == '' then
    promised = '1'
    call('HSET', KEYS[1], 'promised', promised)
  end
  why = promised == '1' and ARGV[2] or ARGV[3]
  call('HSET', KEYS[1], 'answer', ARGV[1], 'end', why, 'worker', ARGV[4])
  call('HDEL', KEYS[1], 'handed', 'stuck')
  call('PEXPIRE', KEYS[1], ARGV[5] + offset)
end
return {promised, why}

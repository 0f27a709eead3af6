-- Purpose    One process at a time does what is due each so often, and another goes on where it was killed.
-- Guarantee  Nobody is elected while another one's lease holds. When it is done nobody is elected before it is due again.
-- KEYS       1 leader  HASH  name: who was elected; until: when its lease ends; due: when it is due again; at: when the last
--            run ended (ms); last: what came of that (JSON)
-- ARGV       1 who asks  2 for how long, or, with 3 '1' (done), when it is due again (ms)  3 '1': it is done
--            4 what came of it (JSON)
-- Return     1: that one is elected, or it is done; 0
-- Twice      renews the lease; is done once.

local leader = KEYS[1]
local name, ends, due = unpack(call('HMGET', leader, 'name', 'until', 'due'))
local held = name and name ~= '' and tonumber(ends) > now
if held and name ~= ARGV[1] then return 0 end
local moment = string.format('%.0f', now + ARGV[2])
if ARGV[3] == '1' then
  if not held then return 0 end
  call('HSET', leader, 'name', '', 'until', '0', 'due', moment, 'at', string.format('%.0f', now), 'last', ARGV[4])
  return 1
end
if not held and due and tonumber(due) > now then return 0 end
call('HSET', leader, 'name', ARGV[1], 'until', moment)
return 1

-- Purpose    What is kept, for people and for restores: a page of sessions, or one that is named.
-- Guarantee  Each row as of one moment. Reads only.
-- KEYS       see generations.lua
-- ARGV       1 where to go on ('0': the beginning)  2 about how many to look at  3 a session; '': the page
-- Return     {now, where to go on ('0': that was all), {sessions, each as `told` has it}}
-- Twice      is a second look.

local go_on, found = '0', {}
if ARGV[3] ~= '' then
  if call('HEXISTS', profiles, ARGV[3]) == 1 then found = {ARGV[3], ''} end
else
  go_on, found = unpack(call('HSCAN', profiles, ARGV[1], 'COUNT', ARGV[2]))
end
local rows = {}
for i = 1, #found, 2 do table.insert(rows, told(found[i], (record_of(found[i])))) end
return {digits(now), go_on, rows}

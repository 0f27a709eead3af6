-- Purpose    A person does not want to be told of something for a while, or wants to again.
-- Guarantee  There are never more silences than allowed; those that have ended are erased.
-- KEYS       1 silences  HASH  what each is of -> {"until": when it ends, unix seconds, ...} (JSON)
-- ARGV       1 what it is of  2 the silence (JSON); empty: it ends now  3 the most silences
-- Return     1: done; 0: there was none to end; -1: there are too many
-- Twice      sets the same once more; ends it once, and returns 0 then.

local silences = KEYS[1]
if ARGV[2] == '' then return call('HDEL', silences, ARGV[1]) end
local all = call('HGETALL', silences)
local many = 0
for i = 1, #all, 2 do
  local sound, silence = pcall(cjson.decode, all[i + 1])
  if not sound or tonumber(silence['until'] or 0) * 1000 <= now then
    call('HDEL', silences, all[i])
  elseif all[i] ~= ARGV[1] then
    many = many + 1
  end
end
if many >= tonumber(ARGV[3]) then return -1 end
call('HSET', silences, ARGV[1], ARGV[2])
return 1

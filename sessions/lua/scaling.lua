-- Purpose    What is known and was decided of how many workers are wanted.
-- Guarantee  One answer as of one moment. A create that found room since then does not count any more, also when its session
--            is deleted later. A decision is written only where nobody has decided since the look that it is based on.
-- KEYS       see prelude.lua; then active, unplaced and scaling, as in noted.lua
-- ARGV       1 'look'; or 'decide'  2 the `at` of the look  then field, value, …; or 'grow'  2 who starts workers  3 for how many
--            ms it does when more are wanted  4 how many it has at most  5 for how many ms that counts  6 how many may say so
-- Return     look: {now, creates that found no room, field, value, …}; decide: 1, or 0 when somebody else has decided;
--            grow: 1, or 0 when too many say so
-- Twice      the second one finds that it was decided.

local unplaced, scaling = KEYS[#KEYS - 2], KEYS[#KEYS - 1]
if ARGV[1] == 'decide' then
  if (call('HGET', scaling, 'at') or '0') ~= ARGV[2] then return 0 end
  call('HSET', scaling, 'at', digits(now), unpack(ARGV, 3))
  return 1
end
if ARGV[1] == 'grow' then
  local all, others = call('HGETALL', scaling), 0
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) == 'most:' and all[i] ~= 'most:' .. ARGV[2] then
      local ends = tonumber(string.match(all[i + 1], '^(%d+) ') or '0')
      if ends <= now then call('HDEL', scaling, all[i]) else others = others + 1 end
    end
  end
  if others >= tonumber(ARGV[6]) then return 0 end
  call('HSET', scaling, 'most:' .. ARGV[2], table.concat({digits(now + ARGV[5]), ARGV[4], digits(now + ARGV[3])}, ' '))
  return 1
end
local missed = 0
for _, session in ipairs(call('ZRANGEBYSCORE', unplaced, digits(now - 60 * 1000), '+inf')) do
  if call('HEXISTS', records, session) == 1 then call('ZREM', unplaced, session) else missed = missed + 1 end
end
local answer = {digits(now), missed}
for _, value in ipairs(call('HGETALL', scaling)) do table.insert(answer, value) end
return answer

-- Purpose    Reads keys as they are at one moment, for a backup.
-- Guarantee  What is returned was true at once. It writes nothing.
-- KEYS       of one slot: first the hashes of which only the difference to what is known is returned, as the value of a
--            field never changes there; then those that are dumped as a whole
-- ARGV       1 bytes of values and dumps that are enough (0: all the keys, in this moment)  2 how many hashes come first,
--            then for each of these how many of its fields are known, and their names
-- Return     { how many of KEYS were read: all, or as many as are enough; where the hashes have more news than that, 0
--            , for each hash { {field, value, ... that was not known}, {known fields that are gone} }, for each other
--            key that was read { expires (ms since 1970, -1 never), dump } or false where there is none }
-- Twice      reads twice.

local call = redis.call
local enough, hashes = tonumber(ARGV[1]), tonumber(ARGV[2])
local argument, bytes = 3, 0
local differences, dumps = {}, {}

for i = 1, hashes do
  local known, new, gone = {}, {}, {}
  local count = tonumber(ARGV[argument])
  for at = argument + 1, argument + count do known[ARGV[at]] = true end
  argument = argument + count + 1
  for _, field in ipairs(call('HKEYS', KEYS[i])) do
    if known[field] then
      known[field] = nil
    else
      local value = call('HGET', KEYS[i], field)
      bytes = bytes + #value
      if enough > 0 and bytes > enough then return {0, {}, {}} end
      new[#new + 1], new[#new + 2] = field, value
    end
  end
  for field in pairs(known) do gone[#gone + 1] = field end
  differences[i] = {new, gone}
end

local read = hashes
for i = hashes + 1, #KEYS - 1 do  -- the last one is that of the clock, which goes with each call
  if hashes == 0 and enough > 0 and bytes > enough then break end
  local dump = call('DUMP', KEYS[i])
  if dump then bytes = bytes + #dump end
  dumps[#dumps + 1] = dump and {call('PEXPIRETIME', KEYS[i]), dump} or false
  read = i
end
return {read, differences, dumps}

-- Purpose    A generation was written once more with another key: from now on it is what lies under the new number.
-- Guarantee  One step, only where the generation is as it was read, and only while the number can still count. Fence, time
--            and order stay: whoever runs the session is not disturbed.
-- KEYS       see generations.lua
-- ARGV       1 session  2 number of the generation  3 under which it lay  4 under which it lies now  5 its key
--            6 bytes that were written  7 the number of the one whose chunks it shares, 0: of none  8 under which it lies
-- Return     1, or 0: it or what it shares is not kept as it was, or a later number counts already
-- Twice      the second one answers 1, too.

local record = record_of(ARGV[1])
local number, before, after = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for _, generation in ipairs(record.generations) do
  if generation[1] == number and generation[11] == after then return 1 end
  local may = after > record.settled and is_kept(record, tonumber(ARGV[7]), tonumber(ARGV[8]))
  if generation[1] == number and generation[11] == before and may then
    generation[11], generation[7], generation[5] = after, ARGV[5], tonumber(ARGV[6])
    save(ARGV[1], record)
    return 1
  end
end
return 0

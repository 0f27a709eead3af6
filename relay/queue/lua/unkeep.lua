-- Purpose    Deletes the bodies of delivered events: they are too old, or have too many bytes.
-- Guarantee  Nothing that waits or is dead is touched.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 why: 'age' | 'cap'  then members of `kept`
-- Return     how many were deleted
-- Twice      what is gone is left alone.

local dropped = 0
for i = 2, #ARGV do
  if call('ZREM', KEYS[19], ARGV[i]) == 1 then
    local id = sub(ARGV[i], 16)
    count('kept_bytes', -call('HSTRLEN', KEYS[18], id))
    call('HDEL', KEYS[18], id)
    dropped = dropped + 1
  end
end
if dropped > 0 and ARGV[1] == 'cap' then note_lately(COUNTS, 'unkept', dropped) end
save_counts()
return dropped

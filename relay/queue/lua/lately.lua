-- What a person must not overlook: how often it has happened, since when and when last, until it has not for a day.
--   <what>_lately, <what>_since (ms), <what>_at (ms)   in the hash `counts` of partition.lua
local function note_lately(counts, what, by)
  local DAY = 24 * 60 * 60 * 1000
  local last = call('HGET', counts, what .. '_at')
  if not last or now - last > DAY then call('HSET', counts, what .. '_since', now_text, what .. '_lately', 0) end
  call('HSET', counts, what .. '_at', now_text)
  call('HINCRBY', counts, what .. '_lately', by)
end

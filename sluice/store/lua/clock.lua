-- The time of all scripts: it never runs back, whatever the store's own clock does. `load_script` puts this before each
-- of them, and each call declares its key as the last one (sluice/store/client.py).
--
-- KEYS[#KEYS]   STRING "<the store's clock when it was last looked at, ms>", and where the time is ahead of that clock,
--               behind a space: by how many ms
-- now, micros   ms and us since 1970
-- offset        how many ms the time is ahead of the store's clock, by which keys expire
-- leapt         by how many ms the time has leapt with this look; 0: it has not
--
-- When the clock is set back, the time goes on from where it was, and is ahead of the clock by as much. When the clock
-- is set forward, the time is ahead by as much less, and only beyond that it leaps too: back and forth adds nothing.
-- Otherwise it loses a hundredth of what passes, until it is what the clock says.
-- Somebody looks at least once a second while anybody runs (sluice/store/clock.py). So a gap of more than LEAP ms is a
-- step forward, or nobody was there; and what was lost since the look before is made up for with the next (look.lua).
-- A look is noted only every LOOK_EVERY ms, as writing costs more than reading: so much of the time a step back may take
-- with it. A note that a store refuses, because it is full, is not missed.
local call = redis.call
local now, micros, offset
local leapt = 0
do
  local LOOK_EVERY, LEAP, SLOWER = 100, 2000, 100
  local clock, note = call('TIME'), call('GET', KEYS[#KEYS])
  micros = clock[1] * 1000000 + clock[2]
  now = (micros - micros % 1000) / 1000
  local seen = tonumber(note)
  offset = 0
  if note and not seen then
    local before, by = string.match(note, '^(%d+) (%d+)$')
    seen, offset = tonumber(before), tonumber(by or 0)
  end
  local passed, before = now - (seen or 0), offset
  if passed < 0 or passed >= LOOK_EVERY then
    if passed < 0 then offset = offset - passed
    elseif offset > 0 then
      offset = math.max(0, offset - (passed > LEAP and passed or math.floor(passed / SLOWER)))
    end
    local noted = redis.pcall('SET', KEYS[#KEYS], string.format(offset > 0 and '%d %d' or '%d', now, offset))
    if seen and passed > LEAP and noted.ok then leapt = passed + offset - before end
  end
  if offset > 0 then now, micros = now + offset, micros + offset * 1000 end
end

-- Shared by the scripts of sessions/profiles/generations.py, which passes the same keys to all of them:
--
-- KEYS[1] profiles   HASH    session -> its record, packed: fence; deleted: when (0: it is not), and `gone`: nothing that was begun
--                            under this fence, or an older one, is saved after it; generations, each as GENERATION below,
--                            oldest first; begun: the last number that was given, and when; settled: no number up to this one
--                            can become a generation any more
-- KEYS[2] fence      STRING  the last fence that was given to anybody
-- KEYS[3] forgotten  STRING  the highest `gone` of the sessions whose record was removed
--
-- Moments are milliseconds of the scripts' time. A generation counts from `commit` on; what was written of it before
-- lies under its number, which nobody else is given. So what lies under a number up to `settled`, and is named by no
-- generation of the record, never will be, and may be erased by anybody at any time.
local profiles, last_fence, forgotten = KEYS[1], KEYS[2], KEYS[3]
local GENERATION = {'number', 'fence', 'made', 'size', 'stored', 'chunks', 'key', 'browser', 'backend', 'content', 'under'}
local HOUR = 3600000000  -- microseconds, as fences are

local function digits(number)
  return string.format('%.0f', number)
end

local function record_of(session)
  local packed = call('HGET', profiles, session)
  if not packed then
    local gone = tonumber(call('GET', forgotten) or 0)
    return {fence = 0, deleted = 0, gone = gone, generations = {}, begun = 0, begun_at = 0, settled = 0}, false
  end
  local values = cmsgpack.unpack(packed)
  return {
    fence = values[1], deleted = values[2], gone = values[3], generations = values[4], begun = values[5],
    begun_at = values[6], settled = values[7],
  }, true
end

local function save(session, record)
  call('HSET', profiles, session, cmsgpack.pack({
    record.fence, record.deleted, record.gone, record.generations, record.begun, record.begun_at, record.settled,
  }))
end

-- Greater than every fence before, also after the store lost its last second.
local function next_fence()
  local fence = math.max(micros, tonumber(call('GET', last_fence) or 0) + 1)
  call('SET', last_fence, digits(fence))
  return fence
end

-- Why nothing may be saved under this fence; nil: it may. One that is further ahead than any clock was never given.
local function refused(record, fence)
  if fence < record.fence or fence > math.max(micros, record.fence) + HOUR then return 'stale' end
  if fence <= record.gone then return 'deleted' end
end

-- Takes those that are too many from the record, the oldest first, and returns their numbers. One of which all newer ones
-- have less than a quarter does not count, and stays: the newer ones may be a failure. Of a deleted session nothing goes.
local function trim(record, keep)
  if record.deleted > 0 then return {} end
  local left, dropped, largest = {}, {}, 0
  for i = #record.generations, 1, -1 do
    local generation = record.generations[i]
    if largest > 0 and generation[4] > 4 * largest then table.insert(left, 1, generation)
    elseif keep > 0 then
      table.insert(left, 1, generation)
      keep = keep - 1
    else table.insert(dropped, 1, generation[1]) end
    largest = math.max(largest, generation[4])
  end
  record.generations = left
  return dropped
end

-- Whether a generation is kept under this number still; 0: none is asked for.
local function is_kept(record, number, under)
  if number == 0 then return true end
  for _, generation in ipairs(record.generations) do
    if generation[1] == number then return generation[11] == under end
  end
  return false
end

-- As flat as a reply is, its generations newest first.
local function told(session, record)
  local flat = {}
  for i = #record.generations, 1, -1 do
    for n = 1, #GENERATION do
      local value = record.generations[i][n]
      table.insert(flat, type(value) == 'number' and digits(value) or value)
    end
  end
  return {
    session, digits(record.fence), digits(record.deleted), digits(record.begun), digits(record.begun_at),
    digits(record.settled), flat,
  }
end

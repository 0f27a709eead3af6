-- Shared by the scripts of sessions/profiles/generations.py, which passes the same keys to all of them:
--
-- KEYS[1] profiles   HASH    session -> its record, packed: fence; deleted: when (0: it is not), and `gone`: nothing that was begun
--                            under this fence, or an older one, is saved after it; generations, each as GENERATION below,
--                            oldest first; begun: the number of the last one
-- KEYS[2] fence      STRING  the last fence that was given to anybody
--
-- Moments are milliseconds of the scripts' time. A generation counts from `commit` on; what was written of it before
-- lies under its number, which nobody else is given.
local profiles, last_fence = KEYS[1], KEYS[2]
local GENERATION = {'number', 'fence', 'made', 'size', 'stored', 'chunks', 'key', 'browser', 'backend', 'content'}

local function digits(number)
  return string.format('%.0f', number)
end

local function record_of(session)
  local packed = call('HGET', profiles, session)
  if not packed then return {fence = 0, deleted = 0, gone = 0, generations = {}, begun = 0}, false end
  local values = cmsgpack.unpack(packed)
  return {fence = values[1], deleted = values[2], gone = values[3], generations = values[4], begun = values[5]}, true
end

local function save(session, record)
  call('HSET', profiles, session, cmsgpack.pack({record.fence, record.deleted, record.gone, record.generations, record.begun}))
end

-- Greater than every fence before, also after the store lost its last second.
local function next_fence()
  local fence = math.max(micros, tonumber(call('GET', last_fence) or 0) + 1)
  call('SET', last_fence, digits(fence))
  return fence
end

-- Newest first, as flat as a reply is.
local function told(record)
  local flat = {}
  for i = #record.generations, 1, -1 do
    for n = 1, #GENERATION do
      local value = record.generations[i][n]
      table.insert(flat, type(value) == 'number' and digits(value) or value)
    end
  end
  return flat
end

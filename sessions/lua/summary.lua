-- Purpose    How the sessions stand in numbers, and all workers: costs as much as there are workers, not sessions.
-- Guarantee  All of it as of one moment. Counts that do not add up, such as those of a store that an earlier version
--            has filled, are counted anew first.
-- KEYS       see prelude.lua
-- ARGV       1 '1': count anew in any case, which costs as much as there are sessions
-- Return     {now, wanted sessions, those that nobody has, of these at least so many are not connected,
--             {state, sessions, …}, {worker, record (JSON), when it stops being live, load, …}}
-- Twice      is a second look.

local LOOKED_AT = 200

local function kept()
  local sum, found = 0, redis.call('HGETALL', counts)
  for i = 2, #found, 2 do sum = sum + found[i] end
  return found, sum
end

local by_state, sum = kept()
if ARGV[1] == '1' or sum ~= redis.call('HLEN', states) then
  redis.call('DEL', counts)
  local everything = redis.call('HGETALL', states)
  for i = 2, #everything, 2 do count(everything[i], 1) end
  by_state = kept()
end

local unowned, not_connected = 0, 0
for _, ends in ipairs({leases, observed}) do
  unowned = unowned + redis.call('ZCOUNT', ends, '-inf', digits(now))
  for _, session in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', digits(now), 'LIMIT', 0, LOOKED_AT)) do
    local state = redis.call('HGET', states, session)
    if not state or state_in(state) ~= 'connected' then not_connected = not_connected + 1 end
  end
end

local found = {}
local records = redis.call('HGETALL', workers)
for i = 1, #records, 2 do
  local id = records[i]
  for _, value in ipairs({id, records[i + 1], digits(beat_of(id)), load_of(id)}) do table.insert(found, value) end
end
return {now, redis.call('HLEN', wanted), unowned, not_connected, by_state, found}

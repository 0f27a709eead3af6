-- Purpose    Ends what has run out: leases of workers, places that are only held, and what is kept for a while.
-- Guarantee  Costs as much as it changes, which is `limit` sessions at most; who calls again goes on.
-- KEYS       see prelude.lua
-- ARGV       1 limit  2 for how long forgotten sessions are remembered, in ms
-- Return     {sessions that lost their owner or their place, milliseconds to the next end or -1, orphans that may be granted}
-- Twice      the second one goes on with the rest.

local LOST_FOR, LOST_EXISTING_FOR = 3600 * 1000, 7 * 24 * 3600 * 1000
local limit, moved = tonumber(ARGV[1]), 0

for _, id in ipairs(call('ZRANGEBYSCORE', live, '-inf', digits(now), 'LIMIT', 0, limit)) do
  local held, ended = sessions_of(places, id, limit - moved + 1), tonumber(call('ZSCORE', live, id))
  for _, session in ipairs(held) do
    if moved >= limit then break end
    release(record_of(session), 'lost: ' .. id .. ' does not answer', id, ended)
    moved = moved + 1
  end
  if #held == 0 or moved < limit then
    call('ZADD', lost, digits(ended), id)
    call('ZREM', live, id)
    touched[id] = true
  end
end
for _, session in ipairs(call('ZRANGEBYSCORE', reserved, '-inf', digits(now), 'LIMIT', 0, math.max(0, limit - moved))) do
  undo(record_of(session), 'nobody answered')
  moved = moved + 1
end

for _, session in ipairs(call('ZRANGEBYSCORE', forgotten, '-inf', digits(now - ARGV[2]), 'LIMIT', 0, limit)) do
  call('ZREM', forgotten, session)
end
for _, id in ipairs(call('ZRANGEBYSCORE', lost, '-inf', digits(now - LOST_FOR), 'LIMIT', 0, limit)) do
  local worker = worker_of(id)
  if not worker or worker.existing == 0 or tonumber(call('ZSCORE', lost, id)) < now - LOST_EXISTING_FOR then
    call('ZREM', lost, id)
    call('HDEL', fleet, id)
    call('HDEL', dropped, id)
  end
end

local next_end = -1
for _, ends in ipairs({live, reserved}) do
  local first = call('ZRANGE', ends, 0, 0, 'WITHSCORES')[2]
  if first then
    local left = math.max(0, tonumber(first) - now)
    if next_end < 0 or left < next_end then next_end = left end
  end
end
return done({moved, next_end, call('ZCOUNT', orphans, '-inf', digits(now))})

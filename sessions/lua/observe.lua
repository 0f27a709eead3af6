-- Purpose    What an existing worker was seen to run. It knows nothing of us, so what is seen is the truth.
-- Guarantee  A session that somebody else holds stays theirs. One that was placed there and not seen yet is kept until
--            its lease ends; any other that is missing is forgotten.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 its record (JSON)  3 lease in ms  4 JSON of the state of a session nobody has seen yet
--            then per session seen: session, JSON of state and phone, what is known about it (JSON)
-- Return     {session, worker that holds it, …}: those that are held by somebody else
-- Twice      renews a moment later.

local id, till, unseen = ARGV[1], now + ARGV[3], ARGV[4]
redis.call('HSET', workers, id, ARGV[2])
redis.call('ZADD', beats, digits(till), id)

local seen, disputed = {}, {}
for i = 5, #ARGV, 3 do
  local session, holder = ARGV[i], holder_of(ARGV[i])
  local live = holder and lease_of(session) > now
  seen[session] = true
  if live and holder ~= id then
    table.insert(disputed, session)
    table.insert(disputed, holder)
  else
    redis.call('HSETNX', wanted, session, ARGV[i + 2])
    if live then redis.call('ZADD', observed, digits(till), session) else grant(session, id, till, true) end
    note(session, ARGV[i + 1])
  end
end

for _, session in ipairs(sessions_of(id)) do
  local state = redis.call('HGET', states, session) or ''
  local just_placed = lease_of(session) > now and string.match(state, '^%d+ (.*)$') == unseen
  if not seen[session] and not just_placed then forget(session) end
end
return disputed

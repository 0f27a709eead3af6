-- Purpose    Stores events, each at the end of its stream.
-- Guarantee  When it has answered 1 or 2 for an event, the event is stored and will be claimed; an event id that was
--            accepted before is answered 0 and not stored again.
-- KEYS       see partition.lua
-- ARGV       1 most events of this partition  2 most bytes, both with the dead letters
--            then for each event: stream, event id, recognise repeats for (ms), not before (ms from now), time to live
--            (ms, 0: for ever), keep ('' or what a newer event of the same stream and keep replaces), content
-- Return     for each event 1 stored | 2 stored in the place of an older one | 0 a repeat | -1 refused: full
-- Twice      is the same as once: the second time all are repeats.

local most_events, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local given = (#ARGV - 2) / 7

local old = call('ZRANGEBYSCORE', IDS, '-inf', now, 'LIMIT', 0, 2 * given + 2)
if #old > 0 then call('ZREM', IDS, unpack(old)) end

local stored, bytes = call('HLEN', EVENTS), tonumber(call('HGET', COUNTS, 'bytes') or 0)

-- What goes stale anyway is refused first, so that the rest still finds room.
local function full(stream, size)
  local share = string.sub(stream, 1, 1) == 'b' and 0.9 or 1
  return stored + 1 > most_events * share or bytes + size > most_bytes * share
end

-- The waiting event that this one replaces: not the one being delivered right now.
local function older(stream, keep)
  if keep == '' then return nil end
  local eid = call('HGET', LATEST, stream .. '\0' .. keep)
  if not eid then return nil end
  local owner = call('HGET', OWNERS, stream)
  if owner and string.match(owner, '^%d+ (.*)$') == eid then return nil end
  return eid
end

local answers = {}
for i = 3, #ARGV, 7 do
  local stream, id, keep = ARGV[i], ARGV[i + 1], ARGV[i + 5]
  local not_before, ttl = now + tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local expires = ttl > 0 and now + ttl or 0
  local record = string.format('%d %d %d\n', not_before, expires, #keep) .. keep .. ARGV[i + 6]
  local answer
  if call('ZSCORE', IDS, id) then
    count('repeats')
    answer = 0
  else
    local replaced = older(stream, keep)
    if replaced then
      bytes = bytes + #record - call('HSTRLEN', EVENTS, replaced)
      call('HSET', EVENTS, replaced, record)
      call('HDEL', ATTEMPTS, replaced, replaced .. '\2')
      count('replaced')
      answer = 2
    elseif full(stream, #record) then
      count('refused')
      answer = -1
    else
      local eid = stream .. '\0' .. string.format('%014d', call('HINCRBY', COUNTS, 'seq', 1))
      call('HSET', EVENTS, eid, record)
      call('ZADD', QUEUE, 0, eid)
      call('ZADD', lane(stream), 'NX', not_before, stream)
      if keep ~= '' then call('HSET', LATEST, stream .. '\0' .. keep, eid) end
      stored, bytes = stored + 1, bytes + #record
      answer = 1
    end
    if answer > 0 then
      call('ZADD', IDS, now + tonumber(ARGV[i + 2]), id)
      count('accepted')
    end
  end
  answers[#answers + 1] = answer
end
call('HSET', COUNTS, 'bytes', bytes)
return answers

-- Purpose    Stores events, each once, at the end of its stream in every endpoint that it is for.
-- Guarantee  An event is stored for all of its endpoints or, when one of them is full, for none. When it has answered 1
--            or 2, it will be claimed; an event id that was accepted before is answered 0 and not stored again.
-- KEYS       four of the partition (events.lua), then eleven for each endpoint (partition.lua)
-- ARGV       1 how many endpoints  2 of how many events that left something is kept (0: none)
--            for each endpoint: most events, most bytes, both with the dead letters; 's' in order per session | 'n' not
--            for each event: lane, session or event id, event id, recognise repeats for (ms), not before (ms from now),
--            time to live (ms, 0: for ever), keep ('' or what a newer event of the same lane, session and keep
--            replaces), its endpoints ("1 3"), content
-- Return     for each event 1 stored | 2 stored, somewhere in the place of an older one | 0 a repeat | -n refused:
--            endpoint n is full
-- Twice      is the same as once: the second time all are repeats.

local OWN, PER_EVENT = 11, 9
local endpoints, most_logged = {}, tonumber(ARGV[2])

for i = 1, tonumber(ARGV[1]) do
  local k, a = 4 + (i - 1) * OWN, 3 * i
  local e = {
    queue = KEYS[k + 1], u = KEYS[k + 2], n = KEYS[k + 3], b = KEYS[k + 4], owners = KEYS[k + 5],
    attempts = KEYS[k + 6], latest = KEYS[k + 7], dead = KEYS[k + 8], counts = KEYS[k + 10], left = KEYS[k + 11],
    most_events = tonumber(ARGV[a]), most_bytes = tonumber(ARGV[a + 1]), in_order = ARGV[a + 2] == 's',
    happened = {}, page = {},
  }
  e.held = call('ZCARD', e.queue) + call('ZCARD', e.dead)
  e.bytes = tonumber(call('HGET', e.counts, 'bytes') or 0)
  if e.held == 0 and e.bytes ~= 0 then  -- some were lost, and how large they were nobody knows
    e.bytes = 0
    call('HSET', e.counts, 'bytes', 0)
  end
  endpoints[i] = e
end

local function count(e, what, by) e.happened[what] = (e.happened[what] or 0) + (by or 1) end

-- What goes stale anyway is refused first, so that the rest still finds room.
local function full(e, lane, size)
  local share = lane == 'b' and 0.9 or 1
  return e.held + 1 > e.most_events * share or e.bytes + size > e.most_bytes * share
end

-- The waiting event that this one replaces: not one that is being delivered right now.
local function older(e, kept)
  local eid = call('HGET', e.latest, kept)
  if not eid then return nil end
  local stream, seq, id = split(eid)
  if call('HEXISTS', EVENTS, id) == 0 then return nil end
  local owner = call('HGET', e.owners, stream)
  if owner and seq <= tonumber(match(owner, '^%d+ (%d+) ')) then return nil end
  return eid
end

local function replace(e, eid, id, kept)
  local stream, seq, gone = split(eid)
  local record = call('HGET', EVENTS, gone)
  local accepted, recognised_until, for_several = parse_leaving(record)
  local fresh = string.format('%s\0%014d\0%s', stream, seq, id)
  call('ZREM', e.queue, eid)
  call('ZADD', e.queue, 0, fresh)
  call('HDEL', e.attempts, eid, eid .. '\2', eid .. '\3', eid .. '\4')
  call('HSET', e.latest, kept, fresh)
  let_go(gone, for_several, recognised_until)
  farewell(e.page, eid, accepted, 'replaced', '0', id, '')
  e.bytes = e.bytes - #record
  count(e, 'bytes', -#record)
  count(e, 'replaced')
end

local function append(e, lane, of, id, seq, not_before, kept)
  local stream = lane .. (e.in_order and of or id)
  local eid = string.format('%s\0%014d\0%s', stream, seq, id)
  call('ZADD', e.queue, 0, eid)
  call('ZADD', e[lane], 'NX', not_before, stream)
  if kept ~= '' then call('HSET', e.latest, kept, eid) end
  e.held = e.held + 1
end

local function is_repeat(id)
  if call('HEXISTS', EVENTS, id) == 1 then return true end
  local known = call('ZSCORE', IDS, id)
  return known and tonumber(known) > now
end

local function accept(at)
  local lane, of, id, content = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 8]
  local kept = ARGV[at + 6] ~= '' and lane .. of .. '\0' .. ARGV[at + 6] or ''
  local delay = tonumber(ARGV[at + 4])
  local to = {}
  for number in string.gmatch(ARGV[at + 7], '%d+') do to[#to + 1] = tonumber(number) end
  if is_repeat(id) then
    for _, i in ipairs(to) do count(endpoints[i], 'repeats') end
    return 0
  end
  local size = #kept + #content
  for _, i in ipairs(to) do
    if full(endpoints[i], lane, size) then
      count(endpoints[i], 'refused')
      return -i
    end
  end
  local seq = call('INCR', SEQ)
  local record = string.format('%d %d %d %d %d %d %s %d\n', seq, now, delay, tonumber(ARGV[at + 5]),
    tonumber(ARGV[at + 3]), #to, lane, #kept) .. kept .. content
  call('HSET', EVENTS, id, record)
  if #to > 1 then call('HSET', REFS, id, #to) end
  local answer = 1
  for _, i in ipairs(to) do
    local e = endpoints[i]
    local eid = kept ~= '' and older(e, kept)
    if eid then
      replace(e, eid, id, kept)
      answer = 2
    else
      append(e, lane, of, id, seq, now + delay, kept)
    end
    e.bytes = e.bytes + #record
    count(e, 'bytes', #record)
    count(e, 'accepted')
  end
  return answer
end

local answers = {}
for at = 3 + 3 * #endpoints, #ARGV, PER_EVENT do answers[#answers + 1] = accept(at) end
for _, e in ipairs(endpoints) do
  for what, by in pairs(e.happened) do call('HINCRBY', e.counts, what, by) end
  append_page(e.left, e.counts, e.page, most_logged)
end
return answers

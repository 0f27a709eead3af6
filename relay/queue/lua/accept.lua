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
    happened = {}, page = {}, places = {}, due = {u = {}, n = {}, b = {}},
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

local is_known = {}  -- what this call has stored, and what it has replaced: a repeat of either is recognised

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
  is_known[gone] = recognised_until > now
  farewell(e.page, eid, accepted, 'replaced', '0', id, '')
  e.bytes = e.bytes - #record
  count(e, 'bytes', -#record)
  count(e, 'replaced')
end

-- --- what is written together

local records = {}  -- id and record of each

local function save()
  with_all('HSET', EVENTS, records)
  for _, e in ipairs(endpoints) do
    with_all('ZADD', e.queue, e.places)
    e.places = {}
    for lane, streams in pairs(e.due) do
      for i = 1, #streams, PART do
        call('ZADD', e[lane], 'NX', unpack(streams, i, math.min(i + PART - 1, #streams)))
      end
      e.due[lane] = {}
    end
  end
  records = {}
end

local function append(e, lane, of, id, seq, not_before)
  local stream = lane .. (e.in_order and of or id)
  local eid = string.format('%s\0%014d\0%s', stream, seq, id)
  local places, due = e.places, e.due[lane]
  local n, m = #places, #due
  places[n + 1], places[n + 2] = 0, eid
  due[m + 1], due[m + 2] = not_before, stream
  e.held = e.held + 1
  return eid
end

-- --- one event

local FIRST = 3 + 3 * #endpoints
local known_until = {}  -- of each event, where one of its id has left before
do
  local ids = {}
  for at = FIRST, #ARGV, PER_EVENT do ids[#ids + 1] = ARGV[at + 2] end
  for i = 1, #ids, PART do
    local some = call('ZMSCORE', IDS, unpack(ids, i, math.min(i + PART - 1, #ids)))
    for j = 1, #some do known_until[i + j - 1] = some[j] end
  end
end

local function is_repeat(at, id)
  if is_known[id] or call('HEXISTS', EVENTS, id) == 1 then return true end
  local until_then = known_until[(at - FIRST) / PER_EVENT + 1]
  return until_then and tonumber(until_then) > now
end

local seq, reserved = 0, 0
local function next_seq(at)
  if reserved == 0 then  -- for all that may follow
    reserved = (#ARGV - at + 1) / PER_EVENT
    seq = call('INCRBY', SEQ, reserved) - reserved
  end
  seq, reserved = seq + 1, reserved - 1
  return seq
end

local function accept(at)
  local lane, of, id, content = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 8]
  local kept = ARGV[at + 6] ~= '' and lane .. of .. '\0' .. ARGV[at + 6] or ''
  local delay = tonumber(ARGV[at + 4])
  local to = {}
  for number in string.gmatch(ARGV[at + 7], '%d+') do to[#to + 1] = tonumber(number) end
  if is_repeat(at, id) then
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
  local own_seq = next_seq(at)
  local record = string.format('%d %s %s %s %s %d %s %d\n', own_seq, now_text, ARGV[at + 4], ARGV[at + 5],
    ARGV[at + 3], #to, lane, #kept) .. kept .. content
  records[#records + 1], records[#records + 2] = id, record
  is_known[id] = true
  if kept ~= '' then save() end  -- what it replaces is looked for in the store
  if #to > 1 then call('HSET', REFS, id, #to) end
  local answer = 1
  for _, i in ipairs(to) do
    local e = endpoints[i]
    local eid = kept ~= '' and older(e, kept)
    if eid then
      replace(e, eid, id, kept)
      answer = 2
    else
      local place = append(e, lane, of, id, own_seq, now + delay)
      if kept ~= '' then call('HSET', e.latest, kept, place) end
    end
    e.bytes = e.bytes + #record
    count(e, 'bytes', #record)
    count(e, 'accepted')
  end
  return answer
end

local answers = {}
for at = FIRST, #ARGV, PER_EVENT do answers[#answers + 1] = accept(at) end
save()
for _, e in ipairs(endpoints) do
  for what, by in pairs(e.happened) do call('HINCRBY', e.counts, what, by) end
  append_page(e.left, e.counts, e.page, most_logged)
end
return answers

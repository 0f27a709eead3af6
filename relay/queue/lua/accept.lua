-- Purpose    Stores events, each once, at the end of its stream in every endpoint that it is for.
-- Guarantee  An event is stored for all of its endpoints or, when one of them is full, for none. When it has answered 1
--            or 2, it will be leased; an event id that was accepted before is answered 0 and not stored again.
-- KEYS       four of the partition (events.lua), then twelve for each endpoint (partition.lua), then the names of the
--            partition's endpoints: one is added with its first event, so that it is found when the policies have lost it
-- ARGV       1 how many endpoints  2 how many events that have left stay in the history (0: none)
--            for each endpoint: maximum of events and of bytes, dead letters included; order: 'session' | 'none'
--            for each event: lane letter, ordering key (session or event id), event id, recognise repeats for (ms), not
--            before (ms from now, or "<ms> <limit> <us for one of its tokens> <its burst> <ms for all other limits>" of
--            what a limit delays), time to live (ms, 0: for ever), coalesce key ('', or a newer event of the same lane,
--            ordering key and coalesce key replaces it), its endpoints ("1 3"), content
-- Return     for each event 1 stored | 2 stored, and for some endpoint in place of an older one | 0 a repeat
--            | -n refused: endpoint n is full
-- Twice      is the same as once: the second time all are repeats.

local SHARED_KEYS, KEYS_PER_ENDPOINT, PER_EVENT = 4, 12, 9
local STORED, REPLACED, REPEAT = 1, 2, 0
local BULK_SHARE = 0.9
local endpoints, max_history = {}, tonumber(ARGV[2])

for i = 1, tonumber(ARGV[1]) do
  local k, a = SHARED_KEYS + (i - 1) * KEYS_PER_ENDPOINT, 3 * i
  local e = {
    queue = KEYS[k + 1], leases = KEYS[k + 5],
    schedule = {[URGENT] = KEYS[k + 2], [NORMAL] = KEYS[k + 3], [BULK] = KEYS[k + 4]},
    attempts = KEYS[k + 6], latest = KEYS[k + 7], dead = KEYS[k + 8], counts = KEYS[k + 10], history = KEYS[k + 11],
    delayed = KEYS[k + 12],
    max_events = tonumber(ARGV[a]), max_bytes = tonumber(ARGV[a + 1]), in_order = ARGV[a + 2] == 'session',
    happened = {}, page = {}, entries = {}, due = {[URGENT] = {}, [NORMAL] = {}, [BULK] = {}},
  }
  e.held = call('ZCARD', e.queue) + call('ZCARD', e.dead)
  e.bytes = call('HGET', e.counts, 'bytes')
  if not e.bytes then
    call('SADD', KEYS[SHARED_KEYS + ARGV[1] * KEYS_PER_ENDPOINT + 1], match(e.counts, '^sl:{%d+}:(.*):counts$'))
  end
  e.bytes = tonumber(e.bytes or 0)
  if e.held == 0 and e.bytes ~= 0 then  -- some were lost, and nobody knows how large they were
    e.bytes = 0
    call('HSET', e.counts, 'bytes', 0)
  end
  endpoints[i] = e
end

local function count(e, what, by) e.happened[what] = (e.happened[what] or 0) + (by or 1) end

-- Bulk is refused first, so that the other lanes still find room.
local function is_full(e, lane, size)
  local share = lane == BULK and BULK_SHARE or 1
  return e.held + 1 > e.max_events * share or e.bytes + size > e.max_bytes * share
end

local is_known = {}  -- what this call has stored, and what it has replaced: a repeat of either is recognised

-- The waiting event that this one replaces; one that is leased right now is not replaced.
local function find_older(e, coalesce_key)
  local entry_id = call('HGET', e.latest, coalesce_key)
  if not entry_id then return nil end
  local stream, seq, id = split(entry_id)
  if call('HEXISTS', EVENTS, id) == 0 then return nil end
  local lease = call('HGET', e.leases, stream)
  if lease and seq <= tonumber(match(lease, '^%d+ (%d+) ')) then return nil end
  return entry_id
end

local function replace(e, entry_id, id, coalesce_key)
  local stream, seq, gone = split(entry_id)
  local record = call('HGET', EVENTS, gone)
  local accepted, dedupe_until, for_several = parse_leaving(record)
  local fresh = string.format('%s\0%014d\0%s', stream, seq, id)
  call('ZREM', e.queue, entry_id)
  call('ZADD', e.queue, 0, fresh)
  call('HDEL', e.attempts, entry_id, entry_id .. CRASHES, entry_id .. LOG, entry_id .. REPLAYED, entry_id .. FAILURES)
  call('HSET', e.latest, coalesce_key, fresh)
  release_record(gone, for_several, dedupe_until)
  is_known[gone] = dedupe_until > now
  add_to_page(e.page, entry_id, accepted, 'replaced', '0', id, '')
  e.bytes = e.bytes - #record
  count(e, 'bytes', -#record)
  count(e, 'replaced')
end

-- --- what is written together

local records = {}  -- id and record of each

local function save()
  with_all('HSET', EVENTS, records)
  for _, e in ipairs(endpoints) do
    with_all('ZADD', e.queue, e.entries)
    e.entries = {}
    for lane, streams in pairs(e.due) do
      for i = 1, #streams, PART do
        call('ZADD', e.schedule[lane], 'NX', unpack(streams, i, math.min(i + PART - 1, #streams)))
      end
      e.due[lane] = {}
    end
  end
  records = {}
end

local function append(e, lane, ordering_key, id, seq, not_before)
  local stream = lane .. (e.in_order and ordering_key or id)
  local entry_id = string.format('%s\0%014d\0%s', stream, seq, id)
  local entries, due = e.entries, e.due[lane]
  local n, m = #entries, #due
  entries[n + 1], entries[n + 2] = 0, entry_id
  due[m + 1], due[m + 2] = not_before, stream
  e.held = e.held + 1
  return entry_id
end

-- Notes why an event is delayed, so that it can be brought forward when its limit is edited (hasten.lua).
local function note_delay(e, not_before, limit, others, ordering_key, id)
  local past = math.min(call('ZCOUNT', e.delayed, '-inf', now), 2)
  if past > 0 then call('ZREMRANGEBYRANK', e.delayed, 0, past - 1) end
  call('ZADD', e.delayed, not_before, string.format('%s %d\0%s\0%s', limit, now + others, ordering_key, id))
end

-- --- one event

local FIRST = 3 + 3 * #endpoints
local known_until = {}  -- by event: until when a repeat is recognised, where one of its id has left before
do
  local ids = {}
  for at = FIRST, #ARGV, PER_EVENT do ids[#ids + 1] = ARGV[at + 2] end
  for i = 1, #ids, PART do
    local some = call('ZMSCORE', DEDUPE, unpack(ids, i, math.min(i + PART - 1, #ids)))
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
  local lane, ordering_key, id, content = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 8]
  local coalesce_key = ARGV[at + 6] ~= '' and lane .. ordering_key .. '\0' .. ARGV[at + 6] or ''
  local delay, limit, others = tonumber(ARGV[at + 4])
  if not delay then delay, limit, others = match(ARGV[at + 4], '^(%d+) (%S+ %d+ %d+) (%d+)$') end
  local to = {}
  for number in string.gmatch(ARGV[at + 7], '%d+') do to[#to + 1] = tonumber(number) end
  if is_repeat(at, id) then
    for _, i in ipairs(to) do count(endpoints[i], 'repeats') end
    return REPEAT
  end
  local size = #coalesce_key + #content
  for _, i in ipairs(to) do
    if is_full(endpoints[i], lane, size) then
      count(endpoints[i], 'refused')
      return -i
    end
  end
  local own_seq = next_seq(at)
  local record = string.format('%d %s %s %s %s %d %s %d\n', own_seq, now_text, delay, ARGV[at + 5],
    ARGV[at + 3], #to, lane, #coalesce_key) .. coalesce_key .. content
  records[#records + 1], records[#records + 2] = id, record
  is_known[id] = true
  if coalesce_key ~= '' then save() end  -- what it replaces is looked for in the store
  if #to > 1 then call('HSET', REFS, id, #to) end
  local answer = STORED
  for _, i in ipairs(to) do
    local e = endpoints[i]
    local entry_id = coalesce_key ~= '' and find_older(e, coalesce_key)
    if entry_id then
      replace(e, entry_id, id, coalesce_key)
      answer = REPLACED
    else
      local appended = append(e, lane, ordering_key, id, own_seq, now + delay)
      if coalesce_key ~= '' then call('HSET', e.latest, coalesce_key, appended) end
    end
    if limit then note_delay(e, now + delay, limit, others, ordering_key, id) end
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
  append_page(e.history, e.counts, e.page, max_history)
end
return answers

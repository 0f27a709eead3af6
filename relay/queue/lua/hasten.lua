-- Purpose    Brings forward events that a limit delays, after the limit was edited or by a person's wish.
-- Guarantee  No event is put off, and none overtakes an older one of its stream. An event keeps the tokens it waits for:
--            under new numbers they come in the new interval, and a larger burst lends as many as it has grown by.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 1: not before all other limits let it pass | 0: whatever they say, then for each event: its member of
--            `delayed`, us for one token now (0: its limit delays it no longer), burst now
-- Return     how many were brought forward
-- Twice      changes nothing the second time: the numbers that a delay was last computed with stand beside it.

local heeds_others = ARGV[1] == '1'

-- The stream's schedule holds the delay only where the event is its head, and was never tried.
local function reschedule(stream, id, moment)
  local head = first_of(stream, 1)[1]
  if not head or sub(head, #stream + ID_AT) ~= id or call('HEXISTS', LEASES, stream) == 1 then return end
  local before = call('HMGET', ATTEMPTS, head, head .. CRASHES, head .. LOG)
  if before[1] or before[2] or before[3] then return end
  call('ZADD', lane(stream), 'XX', 'LT', string.format('%d', moment), stream)
end

-- The record's length stays: it is counted, and those who hold a lease know it.
local function with_delay(record, moment)
  local before, accepted, delay, after = match(record, '^(%d+ (%d+) )(%d+)( .*)$')
  local text = string.format('%0' .. #delay .. 'd', math.max(0, moment - accepted))
  return before .. text .. after
end

local function earlier(not_before, past, new)
  local interval, burst, others = tonumber(past.interval), tonumber(past.burst), tonumber(past.others)
  local moment = now
  if new.interval > 0 then
    local tokens = (not_before - now) * 1000 / interval - (new.burst - burst)
    moment = now + math.ceil(math.max(0, tokens) * new.interval / 1000)
  end
  return heeds_others and math.max(moment, others) or moment
end

local function hasten(member, new)
  local score = call('ZSCORE', DELAYED, member)
  local not_before = tonumber(score or 0)
  if not_before <= now then return 0 end
  local limit, interval, burst, others, key, id = match(member, '^(%S+) (%d+) (%d+) (%d+)%z(%Z+)%z(%Z+)$')
  local record = call('HGET', EVENTS, id)
  if not record then
    call('ZREM', DELAYED, member)
    return 0
  end
  local of_record = parse_due(record)  -- another endpoint may have brought it forward
  local moment = math.min(earlier(not_before, {interval = interval, burst = burst, others = others}, new), of_record)
  if moment >= not_before then return 0 end
  if moment < of_record then call('HSET', EVENTS, id, with_delay(record, moment)) end
  call('ZREM', DELAYED, member)
  if moment > now then
    local numbers = new.interval > 0 and string.format('%d %d', new.interval, new.burst) or interval .. ' ' .. burst
    call('ZADD', DELAYED, string.format('%d', moment), limit .. ' ' .. numbers .. ' ' .. others .. '\0' .. key .. '\0' .. id)
  end
  local letter = match(record, '^%d+ %d+ %d+ %d+ %d+ %d+ (%a) ')
  reschedule(letter .. key, id, moment)
  if key ~= id then reschedule(letter .. id, id, moment) end
  return 1
end

local hastened = 0
for i = 2, #ARGV, 3 do
  hastened = hastened + hasten(ARGV[i], {interval = tonumber(ARGV[i + 1]), burst = tonumber(ARGV[i + 2])})
end
return hastened

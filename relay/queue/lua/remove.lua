-- Purpose    Takes waiting events out of the queue of an endpoint: a person skips or drops them, they have expired, or a
--            backup brought them back and nobody may send them again.
-- Guarantee  What is leased is left alone, and a lease that is over is ended, so that its holder settles nothing any more.
--            A skipped or restored event becomes a dead letter, as it was. The next event of its stream may be leased at once.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 how many events that have left stay in the history (0: none)  2 'skip' | 'drop' | 'expire' | 'restored'
--            3 the reason, for people  then entry ids
-- Return     { how many were taken out, how many are leased }
-- Twice      what no longer waits is left alone.

local max_history, how, reason = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local taken, leased, page = 0, 0, {}

local function leave_queue(entry_id, stream, coalesce_key)
  local is_head = first_of(stream, 1)[1] == entry_id
  call('ZREM', QUEUE, entry_id)
  if coalesce_key ~= '' and call('HGET', LATEST, coalesce_key) == entry_id then call('HDEL', LATEST, coalesce_key) end
  local lease = call('HGET', LEASES, stream)
  if lease then return call('HSET', LEASES, stream, without_follower(stream, lease)) end  -- settling it schedules
  if not first_of(stream, 1)[1] then call('ZREM', lane(stream), stream)
  elseif is_head then call('ZADD', lane(stream), now, stream) end
end

local function bury(entry_id, record)
  call('HDEL', ATTEMPTS, entry_id .. CRASHES, entry_id .. REPLAYED, entry_id .. FAILURES)
  call('ZADD', DEAD_LETTERS, now, entry_id)
  call('HSET', REASONS, entry_id, reason)
  count('bytes', -#record)
  count('dead_bytes', #record)
  count('dead')
end

local function leave(entry_id, id, record, state)
  local accepted, dedupe_until, for_several = parse_leaving(record)
  local before = call('HMGET', ATTEMPTS, entry_id, entry_id .. LOG)
  add_to_page(page, entry_id, accepted, state, before[1] or '0', state == 'dropped' and reason or '', before[2] or '')
  forget_attempts(entry_id)
  count('bytes', -#record)
  count(state)
  release_record(id, for_several, dedupe_until)
end

local function is_stale(entry_id, record)
  local _, expires = parse_due(record)
  return expires > 0 and expires <= now and call('HEXISTS', ATTEMPTS, entry_id .. REPLAYED) == 0
end

local function remove(entry_id)
  local stream, seq, id = split(entry_id)
  local record = call('HGET', EVENTS, id)
  if record and how == 'expire' and not is_stale(entry_id, record) then return end
  if is_leased(stream, seq) then
    leased = leased + 1
    return
  end
  local coalesce_key = ''
  if record then coalesce_key = select(4, parse_leaving(record)) end
  leave_queue(entry_id, stream, coalesce_key)
  taken = taken + 1
  if not record then
    forget_attempts(entry_id)
    count('lost')
  elseif how == 'skip' or how == 'restored' then bury(entry_id, record)
  else leave(entry_id, id, record, how == 'drop' and 'dropped' or 'expired') end
end

for i = 4, #ARGV do
  if call('ZSCORE', QUEUE, ARGV[i]) then remove(ARGV[i]) end
end
append_page(HISTORY, COUNTS, page, max_history)
save_counts()
return {taken, leased}

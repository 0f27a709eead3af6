-- Purpose    Erases dead letters for good.
-- Guarantee  Nothing that is not dead is touched.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 of how many events that left something is kept (0: none), then eids
-- Return     how many were erased
-- Twice      what is gone is left alone.

local most_logged, dropped, page = tonumber(ARGV[1]), 0, {}
for i = 2, #ARGV do
  local eid = ARGV[i]
  if call('ZREM', DEAD, eid) == 1 then
    local _, _, id = split(eid)
    local record = call('HGET', EVENTS, id)
    if record then
      local accepted, recognised_until, for_several = parse_leaving(record)
      local before = call('HMGET', ATTEMPTS, eid, eid .. '\3')
      local reason = string.gsub(call('HGET', REASONS, eid) or '', '\n', ' ')
      farewell(page, eid, accepted, 'dropped', before[1] or '0', reason, before[2] or '')
      count('bytes', -#record)
      let_go(id, for_several, recognised_until)
    end
    call('HDEL', REASONS, eid)
    forget_attempts(eid)
    dropped = dropped + 1
  end
end
if dropped > 0 then count('dropped', dropped) end
append_page(LEFT, COUNTS, page, most_logged)
save_counts()
return dropped

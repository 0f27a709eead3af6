-- Purpose    Deletes dead letters for good.
-- Guarantee  Nothing that is not dead is touched.
-- KEYS       see events.lua and partition.lua
-- ARGV       1 how many events that have left stay in the history (0: none)  2 why: 'person' | 'age': they were too old
--            | 'cap': there were too many, then entry ids
-- Return     how many were deleted
-- Twice      what is gone is left alone.

local WHY = {
  person = 'dropped by a person', age = 'dropped for its age', cap = 'dropped as the oldest of too many dead letters',
}
local max_history, why, dropped, page = tonumber(ARGV[1]), ARGV[2], 0, {}
for i = 3, #ARGV do
  local entry_id = ARGV[i]
  if call('ZREM', DEAD_LETTERS, entry_id) == 1 then
    local _, _, id = split(entry_id)
    local record = call('HGET', EVENTS, id)
    if record then
      local accepted, dedupe_until, for_several = parse_leaving(record)
      local before = call('HMGET', ATTEMPTS, entry_id, entry_id .. LOG)
      local reason = string.gsub(call('HGET', REASONS, entry_id) or '', '\n', ' ')
      local summary = WHY[why] .. '; it had died: ' .. reason
      add_to_page(page, entry_id, accepted, 'dropped', before[1] or '0', summary, before[2] or '')
      count('dead_bytes', -#record)
      release_record(id, for_several, dedupe_until)
    end
    call('HDEL', REASONS, entry_id)
    forget_attempts(entry_id)
    dropped = dropped + 1
  end
end
if dropped > 0 then count('dropped', dropped) end
if dropped > 0 and why == 'cap' then note_lately(COUNTS, 'capped', dropped) end
append_page(HISTORY, COUNTS, page, max_history)
save_counts()
return dropped

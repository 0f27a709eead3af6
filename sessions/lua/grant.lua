-- Purpose    Gives orphans to the workers that were chosen for them.
-- Guarantee  First come, first served: what is no orphan any more is left alone. Never more than a worker's capacity. A new
--            fence with each.
-- KEYS       see prelude.lua
-- ARGV       1 who asks  then per session: session, worker, its instance
-- Return     for each that was granted: for how long (ms) nobody had it; -1: nobody ever had
-- Twice      the second one finds them granted.

local waited = {}
for i = 2, #ARGV, 3 do
  local session, id = ARGV[i], ARGV[i + 1]
  local due = call('ZSCORE', orphans, session)
  if due and tonumber(due) <= now and is_current(id, ARGV[i + 2]) and has_room(id) then
    local record = record_of(session)
    table.insert(waited, record.last ~= '' and math.max(0, now - record.lost) or -1)
    grant(record, id, 'granted to', ARGV[1])
  end
end
return done(waited)

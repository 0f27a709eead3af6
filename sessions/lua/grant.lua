-- Purpose    Gives orphans to the workers that were chosen for them.
-- Guarantee  First come, first served: what is no orphan any more is left alone. Never more than a worker's capacity. A new
--            fence with each.
-- KEYS       see prelude.lua
-- ARGV       1 who asks  then per session: session, worker, its instance
-- Return     how many were granted
-- Twice      the second one finds them granted.

local granted = 0
for i = 2, #ARGV, 3 do
  local session, id = ARGV[i], ARGV[i + 1]
  local due = call('ZSCORE', orphans, session)
  if due and tonumber(due) <= now and is_current(id, ARGV[i + 2]) and has_room(id) then
    grant(record_of(session), id, 'granted to', ARGV[1])
    granted = granted + 1
  end
end
return done(granted)

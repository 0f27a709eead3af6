-- Purpose    What went wrong with profiles and has not ended, for people.
-- Guarantee  As of one moment. Reads only.
-- KEYS       1 troubles  see note.lua
-- ARGV       1 milliseconds after which one has ended
-- Return     {kind and session, how often, milliseconds since the first time, since the last one, the reason, …}
-- Twice      is a second look.

local found, kept_for, all = {}, tonumber(ARGV[1]), call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local times, first, last, reason = unpack(cmsgpack.unpack(all[i + 1]))
  if now - last <= kept_for then
    for _, value in ipairs({all[i], times, now - first, now - last, reason}) do table.insert(found, value) end
  end
end
return found

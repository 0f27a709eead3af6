-- Purpose    What a gateway has seen of sessions: events that came of them, sends that should have brought one, and sends that
--            are in flight.
-- Guarantee  Only of sessions that are known. The last event counts, and the first send after it, whatever gateway saw them.
-- KEYS       see prelude.lua
-- ARGV       per session: session, for how many milliseconds its last event, and its first send without one, is past ('': there
--            was none), '1': a send is in flight
-- Return     nothing
-- Twice      sees them a moment later, and so a send that stands there already stays.

for i = 1, #ARGV, 4 do
  local session = ARGV[i]
  if call('HEXISTS', records, session) == 1 then
    local found = activity_of(session)
    if ARGV[i + 1] ~= '' then found.heard = math.max(found.heard, now - ARGV[i + 1]) end
    local sent = ARGV[i + 2] ~= '' and now - ARGV[i + 2]
    if sent and found.sent <= found.heard then found.sent = sent end
    if ARGV[i + 3] == '1' then found.sending = now end
    save_activity(session, found)
  end
end

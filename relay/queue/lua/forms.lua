-- The two forms of a stream: of a session, or of a single event where the endpoint keeps no order or there is no session.
-- Put after partition.lua.
--   order in COUNTS   'session' | 'none': the form that events are stored in; 'sorting': as 'session', while some may still
--                     wait in the other form, so that nothing is leased. Absent: nobody has said so yet.
--   arrivals          how often events came from another endpoint, in whatever form
local SORTING = 'sorting'

local function is_single(stream, id) return sub(stream, 2) == id end

-- The session of an event, by its record; nil: it has none.
local function session_of(record, coalesce_key)
  local at = find(record, '\n', 1, true) + 1 + #coalesce_key
  local session = cjson.decode(sub(record, at, find(record, '\n', at, true) - 1))[3]
  return type(session) == 'string' and session or nil
end

-- The entry id under which an event waits in order with the others of its session.
local function in_session_form(entry_id, record)
  local stream, _, id = split(entry_id)
  if not is_single(stream, id) then return entry_id end
  local _, _, _, coalesce_key = parse_leaving(record)
  local session = session_of(record, coalesce_key)
  return session and sub(stream, 1, 1) .. session .. sub(entry_id, #stream + 1) or entry_id
end

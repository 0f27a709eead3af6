-- Purpose    A session that somebody runs is not well, for this reason, or is well again.
-- Guarantee  Once each, whoever sees it: Laravel is to be told when it begins, and when it is over, not when its kind changes.
--            Only of a session that is as it was seen (ARGV[5], ARGV[6]).
-- KEYS       see prelude.lua
-- ARGV       1 session  2 kind; '': it is over  3 since when (ms)  4 the reason, or how it is over, on one line
--            5 state that it must have  6 since when (ms)  7 who has seen it
-- Return     'none': it was known already, or the session is otherwise by now; 'begun', 'changed'; {'over', kind, ms that it lasted}
-- Twice      finds it noted, or over.

local session, kind, who = ARGV[1], ARGV[2], ARGV[7]
local record, before = record_of(session), fault_of(session)
if not record or record.leaving == '!' then return 'none' end
if record.state ~= ARGV[5] or record.since ~= tonumber(ARGV[6]) then return 'none' end

local UNTOLD_KEPT = 10000
local function tell(fault, over)
  call('RPUSH', untold, cjson.encode({session = session, workspace = record.workspace, state = record.state, kind = fault.kind,
       since = fault.since, noted = fault.noted, over = digits(over), reason = fault.reason}))
  call('LTRIM', untold, -UNTOLD_KEPT, -1)
end

if kind == '' then
  if not before then return 'none' end
  local lasted = now - tonumber(before.noted)
  save_fault(session, before, nil)
  note(record, 'well again (' .. before.kind .. '): ' .. ARGV[4], who)
  save(record)
  tell(before, now)
  return done({'over', before.kind, lasted})
end
if record.ended ~= '' or (before and before.kind == kind) then return 'none' end
local fault = {kind = kind, since = ARGV[3], noted = before and before.noted or digits(now), reason = ARGV[4]}
save_fault(session, before, fault)
note(record, 'not well (' .. kind .. '): ' .. fault.reason, who)
save(record)
if not before then tell(fault, 0) end
return done(before and 'changed' or 'begun')

-- Purpose    The sessions that a worker of ours has, as far as it matters for moving them; a page of them.
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua; then active, unplaced and scaling, as in noted.lua
-- ARGV       1 worker  2 how many to pass over  3 the most  4 who counts as a person
-- Return     {session, state, fence, milliseconds for which it was not busy, '1': it is to leave, '1': a person placed it, …}
-- Twice      is a second look.

local PERSON_FOR, GAP = 3600 * 1000, 10 * 1000
local active, scaling = KEYS[#KEYS - 3], KEYS[#KEYS - 1]
local noted, watched = unpack(call('HMGET', scaling, 'noted', 'watched'))
watched = noted and now - noted <= GAP and tonumber(watched) or now

-- Within the last hour.
local function by_person(session)
  for line in string.gmatch(call('HGET', history, session) or '', '[^\n]+') do
    local moment, what, who = string.match(line, '^(%d+)\t([^\t]*)\t(.*)$')
    if who == ARGV[4] and now - tonumber(moment) < PERSON_FOR then return '1' end
  end
  return '0'
end

local from, to = range_of(prefix_of(ARGV[1]))
local rows = {}
for _, member in ipairs(call('ZRANGEBYLEX', places, from, to, 'LIMIT', ARGV[2], ARGV[3])) do
  local record = record_of(string.match(member, '^[^ ]* [^ ]* (.*)$'))
  if record.reserved == 0 and record.existing == 0 then
    local busy = math.max(record.since, watched, tonumber(call('ZSCORE', active, record.session) or 0))
    for _, value in ipairs({
      record.session, record.state, digits(record.fence), digits(math.max(0, now - busy)),
      (record.leaving ~= '' or record.ended ~= '') and '1' or '0', by_person(record.session),
    }) do table.insert(rows, value) end
  end
end
return rows

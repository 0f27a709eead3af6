-- Purpose    One gateway at a time tells what goes wrong; and what all gateways know of alerts, for whoever asks.
-- Guarantee  Nobody leads while another one's lease holds. What lies on the board is told when it is not known already.
-- KEYS       1 leader    HASH  name: who leads; until: when its lease ends (ms)
--            2 board     HASH  revision: a number that grows with each change; text: what is remembered (JSON)
--            3 silences  HASH  what each is of -> the silence (JSON)
--            4 machines  HASH  machine -> when it reported (ms), a blank, what is wrong on it (JSON), as in report.lua
-- ARGV       1 who asks  2 for how long it wants to lead (ms); '0': it does not want to, and lets go  3 the revision
--            that it knows  4 its machine  5 for how long a report counts (ms)  6 after how long it is due anew (ms)
-- Return     {1: it leads, 0: it does not; now (ms); the revision; its text, empty where it is known; the silences; of who
--            leads the reports of other machines; 1: who leads is on another machine, to which a report is due}
-- Twice      renews the lease; nothing else is changed.

local leader, board, silences, machines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function is_older(report, ms)
  local at = string.match(report or '', '^(%d+) ')
  return not at or tonumber(at) + ms <= now
end
local name, ends = unpack(call('HMGET', leader, 'name', 'until'))
local leads = 0
if ARGV[2] == '0' then
  if name == ARGV[1] then call('DEL', leader) end
elseif not name or name == ARGV[1] or tonumber(ends) <= now then
  call('HSET', leader, 'name', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'machine', ARGV[4])
  leads = 1
end
local revision = call('HGET', board, 'revision') or '0'
local text = ''
if revision ~= ARGV[3] then text = call('HGET', board, 'text') or '' end
local reports, due = {}, 0
if leads == 1 then
  local all = call('HGETALL', machines)
  for i = 1, #all, 2 do
    if all[i] ~= ARGV[4] and not is_older(all[i + 1], ARGV[5]) then
      table.insert(reports, string.match(all[i + 1], '^%d+ (.*)$'))
    end
  end
elseif ARGV[2] ~= '0' and call('HGET', leader, 'machine') ~= ARGV[4] and is_older(call('HGET', machines, ARGV[4]), ARGV[6]) then
  due = 1
end
return {leads, string.format('%.0f', now), revision, text, call('HVALS', silences), reports, due}

-- Purpose    A worker says that it lives and what it runs; it learns what it has to run.
-- Guarantee  The lease of all sessions in the answer was renewed in this step, so a worker may count it from the moment it
--            sent the beat. A session reported under another fence is not answered: the worker stops that one first. One
--            that it does not report yet (just granted) is answered; one that is only reserved is not, and is confirmed when
--            it is reported. A session that is to leave is not answered, and leaves when it is not reported any more; that is
--            what becomes of one whose phone another one has. A place that was forgotten leaves only when the worker has said
--            that it begins no create under its fence any more: one may be on its way. What is answered for that is below all
--            places that are held for it.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 instance  3 lease in ms  4 allowed moves of the state  5 '1': it drains  6 memory  7 CPU (0 to 1)
--            8 number of reports  9 number of ended ones  10 who stays of several with one phone
--            11 the fence up to which it begins no creates  12 the most sessions that it runs; -1: as before
--            13 events that it could not pass on lately
--            then per report: session, fence, state, phone, reason; per ended session: session, fence; per session that it has
--            stopped for others: session, fence
-- Return     nil when this is not a live worker, or not this instance of it; else {the fence up to which it is to begin no creates,
--            and what it has: session, fence, …}
-- Twice      renews a moment later; ended and stopped sessions are gone already.

local id, lease, moves = ARGV[1], tonumber(ARGV[3]), ARGV[4]
if not is_current(id, ARGV[2]) then return false end
call('ZADD', live, digits(now + lease), id)
local worker = worker_of(id)
local said = {draining = tonumber(ARGV[5]), memory = tonumber(ARGV[6]), cpu = tonumber(ARGV[7])}
said.capacity = tonumber(ARGV[12]) >= 0 and tonumber(ARGV[12]) or worker.capacity
local changed = false
for name, value in pairs(said) do
  changed = changed or worker[name] ~= value
  worker[name] = value
end
if changed then save_worker(id, worker) end
if ARGV[13] == '0' then call('HDEL', dropped, id) else call('HSET', dropped, id, ARGV[13]) end

local reports = {}
local over = 14 + 5 * ARGV[8]
local stopped = over + 2 * ARGV[9]
for i = 14, over - 1, 5 do reports[ARGV[i]] = i end
for i = over, #ARGV, 2 do
  local record = record_of(ARGV[i])
  if record and record.worker == id and record.fence == tonumber(ARGV[i + 1]) then
    if i < stopped then forget(record) else
      release(record, 'released by ' .. id, id)
    end
  end
end

local answer, lowest = {}, nil
for _, session in ipairs(sessions_of(places, id)) do
  local record, at = record_of(session), reports[session]
  local fence = at and tonumber(ARGV[at + 1])
  if record.leaving ~= '' then
    if not at and (record.reserved == 0 or record.fence <= tonumber(ARGV[11])) then release(record, 'released by ' .. id, id) end
  elseif not at then
    if record.reserved == 0 then
      table.insert(answer, session)
      table.insert(answer, digits(record.fence))
    end
  elseif fence == record.fence then
    local first = record.reserved == 1
    if record.reserved == 1 then accept(record, id) end
    if report(record, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], not first and moves, id) then
      one_phone(record, ARGV[10], id)
      save(record)
    end
    if record.ended == '' then
      table.insert(answer, session)
      table.insert(answer, digits(record.fence))
    end
  elseif record.reserved == 0 and now - record.fence / 1000 > lease then
    release(record, 'lost: ' .. id .. ' cannot stop its former run', id)
    record.avoid = id
    save(record)
  end
  if record.reserved == 1 and record.leaving == '' then lowest = math.min(lowest or record.fence, record.fence) end
end
table.insert(answer, 1, digits(lowest and lowest - 1 or last_given()))
return done(answer)

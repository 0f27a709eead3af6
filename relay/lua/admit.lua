-- Purpose    Takes in the results of earlier attempts, then says how many attempts may begin now.
-- Guarantee  Across all processes: nothing while the circuit is open, at most `probes` at a time while it is half-open,
--            and never more than the pace allows; but for one attempt that a person has asked for. Results of an older
--            generation do not move it, nor do any while it is held: what they tell of the endpoint is noted.
-- KEYS       see circuit.lua
-- ARGV       as in circuit.lua, then 11 how many permits are wanted, and for each report:
--            generation; POSTs that succeeded, that failed, that were refused or rejected; whether the endpoint said
--            "not now" (0|1), for at least (ms); permits not used; when the last POST that got a 2xx began (ms, by
--            what an earlier answer said of the time; 0: none did); hashes of ordering keys that failed, with a space
--            before each; '<status | ->:<how often> ' of
--            what was no 2xx; why (for people)
-- Return     { state, generation, permits, ms to wait when there are none (-1: until something else has happened),
--            ms left of the slow start, ok_at (ms), now (ms), held (0|1), why it has opened just now ('' | a cause) }.
--            A generation below 0 is the number of a probe that a person has asked for.
-- Twice      counts results twice and spends permits that nobody uses: both err on the side of sending less, and pass
--            with the window.

local HELD_WAIT = 1000  -- ms: how soon a process sees that a person has released the circuit
local FIRST_REPORT, PER_REPORT = 12, 11

local cause = ''  -- why it has opened in this call

-- Notes results in the window, and that POSTs got a 2xx of which the last one began then (0: none did).
local function count_results(successes, failures, began_at)
  local slot = math.floor(now / math.max(1, WINDOW / 10))
  local last = last_slot or slot
  if slot - last >= 10 then forget_results()
  else for past = last + 1, slot do call('HDEL', K, 's' .. past % 10, 'f' .. past % 10) end end
  last_slot = slot
  ok_at = math.max(ok_at, math.min(now, began_at))
  call('HSET', K, 'slot', string.format('%d', slot), 'ok_at', string.format('%d', ok_at))
  if successes > 0 then call('HINCRBY', K, 's' .. slot % 10, successes) end
  if failures > 0 then call('HINCRBY', K, 'f' .. slot % 10, failures) end
end

-- Defined only when something has failed, or the circuit is not closed: a call pays for each function that it defines.
local function define_rare_steps()
  local MAX_RUNS, SAME_RUN = 8, 10 * WINDOW  -- of the history: how many; ms within which the same status continues one
  local FEW, LONGEST_PAUSE = 3, 3600000  -- ordering keys; ms

  -- How many ordering keys have failed since the last 2xx, FEW at most.
  local function failing_keys()
    if not trouble then return 0 end
    local _, spaces = string.gsub(trouble, ' ', '')
    return spaces
  end

  local function failing_since() return tonumber(string.match(trouble, '^%d+')) end

  -- Opens it, for at least `min_pause` ms: as far as that can be believed.
  local function trip(new_cause, min_pause, why)
    local is_few = failing_keys() < FEW
    trips = is_few and new_cause ~= 'asked' and 1 or trips + 1
    local pause = math.min(CAP, OPEN_FOR * 2 ^ math.min(trips - 1, 30))
    open_until = now + math.max(pause, math.min(min_pause, CAP, LONGEST_PAUSE))
    become(IS_OPEN)
    forget_results()
    local moment = string.format('%d', now)
    call('HSET', K, 'until', string.format('%d', open_until), 'trips', trips, 'why', why, 'cause', new_cause,
      'few', is_few and '1' or '0', 'opened_last', moment)
    call('HSETNX', K, 'opened_first', moment)
    call('HINCRBY', K, 'opened', 1)
    cause = new_cause
  end

  local function close()
    local opened_by = call('HMGET', K, 'few', 'cause')
    become(CLOSED)
    trips = 0
    call('HDEL', K, 'trips', 'until', 'why', 'few', 'cause')
    if opened_by[1] == '1' and opened_by[2] ~= 'asked' then  -- it was never down: there is no need to go slowly
      closed_at = 0
      call('HDEL', K, 'closed_at')
    end
  end

  -- Whether few had failed when it opened.
  local function few_failed() return call('HGET', K, 'few') == '1' end

  -- All results in the window, and the failures.
  local function results()
    local all = call('HMGET', K, 's0', 's1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9',
      'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9')
    local sums = {0, 0}
    for i = 1, 20 do
      local which = i <= 10 and 1 or 2
      sums[which] = sums[which] + tonumber(all[i] or 0)
    end
    return sums[1] + sums[2], sums[2]
  end

  -- --- what is noted whatever the state is

  local function note_history(statuses)
    local runs = {}
    for line in string.gmatch(call('HGET', K, 'history') or '', '[^\n]+') do runs[#runs + 1] = line end
    for status, times in string.gmatch(statuses, '(%S+):(%d+) ') do
      local first = now
      for i = #runs, 1, -1 do
        local same, so_far, since, last = string.match(runs[i], '^(%S+) (%d+) (%d+) (%d+)$')
        if same == status and now - last <= SAME_RUN then
          times, first = times + so_far, since
          table.remove(runs, i)
          break
        end
      end
      runs[#runs + 1] = string.format('%s %d %d %d', status, times, first, now)
    end
    while #runs > MAX_RUNS do table.remove(runs, 1) end
    call('HSET', K, 'history', table.concat(runs, '\n') .. '\n')
  end

  local function note_success(began_at)
    ok_at = math.max(ok_at, math.min(now, began_at))
    call('HSET', K, 'ok_at', string.format('%d', ok_at))
    if trouble then call('HDEL', K, 'trouble') end
    trouble = nil
  end

  local function note_failures(keys, statuses)
    local before = trouble
    trouble = trouble or string.format('%d', now)
    for key in string.gmatch(keys, '%S+') do
      if failing_keys() < FEW and not string.find(trouble, ' ' .. key, 1, true) then trouble = trouble .. ' ' .. key end
    end
    if trouble ~= before then call('HSET', K, 'trouble', trouble) end
    if statuses ~= '' then note_history(statuses) end
  end

  -- --- what moves it

  local function half_open_result(r)
    probes_out = math.max(0, probes_out - r.successes - r.failures - r.refusals - r.unused)
    if r.not_now then return trip('asked', r.min_pause, r.why) end
    if r.failed and (probes_ok == 0 and not r.ok or failing_keys() >= FEW) then return trip('probe', 0, r.why) end
    probes_ok = probes_ok + r.successes
    if r.ok and (probes_ok >= PROBES or few_failed()) then return close() end
    call('HSET', K, 'probes_out', probes_out, 'probes_ok', probes_ok)
  end

  local function closed_result(r)
    if r.not_now then return trip('asked', r.min_pause, r.why) end
    if r.successes + r.failures > 0 then
      count_results(r.successes, r.failures, r.ok_at)
      local total, failed = results()
      if r.failures > 0 and total >= MINIMUM and failed / total >= RATIO then return trip('failing', 0, r.why) end
    end
    if r.failed and now - failing_since() >= WINDOW then trip('nobody', 0, r.why) end
  end

  -- What came of the attempt that a person has asked for. It never makes an open circuit open for longer by itself.
  local function probe_result(r)
    local number = string.format('%d', -r.generation)
    if not r.ok and not r.failed then
      if probe then call('HSET', K, 'probe', string.sub(probe, 1, -2) .. '0') end  -- it found nothing to send
      return
    end
    local status = string.match(r.statuses, '^(%S+):') or '2xx'
    call('HSET', K, 'probed', string.format('%s %d %s %s', number, now, status, r.why))
    if probe and string.match(probe, '^%d+') == number then
      call('HDEL', K, 'probe')
      probe = nil
    end
    if held or state ~= IS_OPEN then return end
    if r.ok then
      if few_failed() then return close() end
      open_until = now
      call('HSET', K, 'until', string.format('%d', open_until))
    elseif r.not_now then trip('asked', r.min_pause, r.why) end
  end

  return function(r)
    if r.ok then note_success(r.ok_at) end
    if r.failed then note_failures(r.keys, r.statuses) end
    if r.generation < 0 then return probe_result(r) end
    if held then return end
    if r.generation ~= generation then
      -- The 2xx of an attempt that began before shows that the few that failed are at fault.
      if r.ok and not r.failed and state == IS_OPEN and few_failed() then close() end
      return
    end
    if state == HALF_OPEN then return half_open_result(r) end
    if state == CLOSED then return closed_result(r) end
  end
end

local take_in_rare

-- Takes in the report whose arguments begin there.
local function take_in(i)
  local of_generation, successes, failures = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local refusals, unused, began_at = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 6]), tonumber(ARGV[i + 7])
  level = math.min(BURST, level + unused)
  local failed = failures + refusals > 0
  if not failed and not trouble and state == CLOSED and not held and of_generation == generation then  -- nearly all
    if successes > 0 then count_results(successes, 0, began_at) end
    return
  end
  take_in_rare = take_in_rare or define_rare_steps()
  take_in_rare({
    generation = of_generation, successes = successes, failures = failures, refusals = refusals,
    not_now = ARGV[i + 4] == '1', min_pause = tonumber(ARGV[i + 5]), unused = unused, ok_at = began_at,
    keys = ARGV[i + 8], statuses = ARGV[i + 9], why = ARGV[i + 10], ok = began_at > 0, failed = failed,
  })
end

-- --- permits

-- Whether an attempt that a person has asked for is to begin now: its number, or nil.
local function asked_probe(wanted)
  if not probe then return nil end
  local number, probe_until, is_given = string.match(probe, '^(%d+) (%d+) (%d)$')
  if now >= tonumber(probe_until) then
    call('HDEL', K, 'probe')
  elseif (held or state) == CLOSED then
    call('HDEL', K, 'probe')
    call('HSET', K, 'probed', string.format('%s %d closed ', number, now))
  elseif wanted > 0 and is_given == '0' then
    call('HSET', K, 'probe', number .. ' ' .. probe_until .. ' 1')
    level = level - 1
    return tonumber(number)
  end
end

-- Returns how many, and ms to wait when there are none.
local function permits(wanted)
  if held == IS_OPEN then return 0, HELD_WAIT end
  if held == CLOSED then state = CLOSED end
  if state == IS_OPEN and now >= open_until then become(HALF_OPEN) end
  if state == IS_OPEN then return 0, open_until - now end
  if wanted == 0 then return 0, -1 end
  local given, wait = wanted, -1
  if state == HALF_OPEN then
    if probes_out > 0 and now >= probes_until then probes_out = 0 end
    given = math.min(given, math.max(0, PROBES - probes_out - probes_ok))
    if given == 0 then wait = math.max(1, probes_until - now) end
  end
  if INTERVAL > 0 and given > 0 then
    given = math.min(given, math.max(0, math.floor(level)))
    if given == 0 then wait = math.ceil((1 - level) * INTERVAL / 1000) end
    level = level - given
  end
  if state == HALF_OPEN and given > 0 then
    call('HSET', K, 'probes_out', probes_out + given, 'probes_until', now + PROBE_LEASE)
  end
  return given, wait
end

refill()
for i = FIRST_REPORT, #ARGV, PER_REPORT do take_in(i) end
local wanted = tonumber(ARGV[11])
local number, given, wait = asked_probe(wanted), 1, -1
if not number then given, wait = permits(wanted) end
save_level()
local slow = state == CLOSED and not held and closed_at > 0 and math.max(0, closed_at + SLOW_START - now) or 0
return {held or state, number and -number or generation, given, wait, slow, ok_at, now, held and 1 or 0, cause}

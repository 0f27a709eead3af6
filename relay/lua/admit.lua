-- Purpose    Takes in the results of earlier attempts, then says how many attempts may begin now.
-- Guarantee  Across all processes: nothing while the circuit is open, at most `probes` at a time while it is half-open,
--            and never more than the pace allows. Results of an older generation are ignored, and all results while it
--            is held.
-- KEYS       see circuit.lua
-- ARGV       as in circuit.lua, then 11 how many permits are wanted, and for each report: generation, successes,
--            failures, whether the endpoint said "not now" (0|1), for at least (ms), permits not used, why (for people)
-- Return     { state, generation, permits, ms to wait when there are none (-1: until something else has happened),
--            ms left of the slow start }
-- Twice      counts results twice and spends permits that nobody uses: both err on the side of sending less, and pass
--            with the window.

local HELD_WAIT = 1000  -- ms: how soon a process sees that a person has released the circuit
local FIRST_REPORT, PER_REPORT = 12, 7

-- Returns all results and the failures in the window.
local function count_results(successes, failures)
  local slot_length = math.max(1, WINDOW / 10)
  local slot = math.floor(now / slot_length)
  local last = tonumber(call('HGET', K, 'slot') or slot)
  if slot - last >= 10 then forget_results()
  else for past = last + 1, slot do call('HDEL', K, 's' .. past % 10, 'f' .. past % 10) end end
  call('HSET', K, 'slot', string.format('%d', slot))
  call('HINCRBY', K, 's' .. slot % 10, successes)
  call('HINCRBY', K, 'f' .. slot % 10, failures)
  local all = call('HMGET', K, 's0', 's1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9',
    'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9')
  local sums = {0, 0}
  for i = 1, 20 do
    local which = i <= 10 and 1 or 2
    sums[which] = sums[which] + tonumber(all[i] or 0)
  end
  return sums[1] + sums[2], sums[2]
end

local function take_in(of_generation, successes, failures, not_now, min_pause, unused, why)
  level = math.min(BURST, level + unused)
  if held or of_generation ~= generation then return end
  if state == HALF_OPEN then
    probes_out = math.max(0, probes_out - successes - failures - unused)
    if not_now or failures > 0 then return trip(min_pause, why) end
    probes_ok = probes_ok + successes
    if probes_ok >= PROBES then
      become(CLOSED)
      trips = 0
      call('HDEL', K, 'trips', 'until', 'why')
    else
      call('HSET', K, 'probes_out', probes_out, 'probes_ok', probes_ok)
    end
  elseif state == CLOSED then
    if not_now then return trip(min_pause, why) end
    if successes + failures > 0 then
      local total, failed = count_results(successes, failures)
      if failures > 0 and total >= MINIMUM and failed / total >= RATIO then trip(min_pause, why) end
    end
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
    given = math.min(given, math.floor(level))
    if given == 0 then wait = math.ceil((1 - level) * INTERVAL / 1000) end
    level = level - given
  end
  if state == HALF_OPEN and given > 0 then
    call('HSET', K, 'probes_out', probes_out + given, 'probes_until', now + PROBE_LEASE)
  end
  return given, wait
end

refill()
for i = FIRST_REPORT, #ARGV, PER_REPORT do
  take_in(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3] == '1', tonumber(ARGV[i + 4]),
    tonumber(ARGV[i + 5]), ARGV[i + 6])
end
local given, wait = permits(tonumber(ARGV[11]))
save_level()
local slow = state == CLOSED and not held and math.max(0, closed_at + SLOW_START - now) or 0
return {held or state, generation, given, wait, closed_at > 0 and slow or 0}

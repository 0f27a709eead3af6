-- Purpose    Takes in what came of earlier deliveries, then says how many may be claimed now.
-- Guarantee  Across all processes: nothing while the circuit is open, at most `probes` at a time while it is half-open,
--            and never more than the pace allows. Results of an older generation are ignored, and all while it is held.
-- KEYS       see circuit.lua
-- ARGV       as in circuit.lua, then 11 how many are wanted, and for each report: generation, went well, went wrong,
--            the endpoint said "not now" (0|1), for at least (ms), permits not used, why (for people)
-- Return     { state, generation, permits, ms to wait when there are none (-1: no need to come back on its own),
--            ms left of the slow start }
-- Twice      counts results twice and spends permits that nobody uses: both err on the side of sending less, and pass
--            with the window.

local HELD_LOOK = 1000  -- ms: how soon a process sees that a person has let go

local function count_results(well, wrong)
  local slot_length = math.max(1, WINDOW / 10)
  local slot = math.floor(now / slot_length)
  local last = tonumber(call('HGET', K, 'slot') or slot)
  if slot - last >= 10 then forget_results()
  else for past = last + 1, slot do call('HDEL', K, 'o' .. past % 10, 'k' .. past % 10) end end
  call('HSET', K, 'slot', string.format('%d', slot))
  call('HINCRBY', K, 'o' .. slot % 10, well)
  call('HINCRBY', K, 'k' .. slot % 10, wrong)
  local all = call('HMGET', K, 'o0', 'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7', 'o8', 'o9',
    'k0', 'k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8', 'k9')
  local sums = {0, 0}
  for i = 1, 20 do
    local which = i <= 10 and 1 or 2
    sums[which] = sums[which] + tonumber(all[i] or 0)
  end
  return sums[1] + sums[2], sums[2]
end

local function report(generation, well, wrong, not_now, floor, unused, why)
  level = math.min(BURST, level + unused)
  if held or generation ~= gen then return end
  if state == 'H' then
    out = math.max(0, out - well - wrong - unused)
    if not_now or wrong > 0 then return trip(floor, why) end
    ok = ok + well
    if ok >= PROBES then
      become('C')
      trips = 0
      call('HDEL', K, 'trips', 'until', 'why')
    else
      call('HSET', K, 'out', out, 'ok', ok)
    end
  elseif state == 'C' then
    if not_now then return trip(floor, why) end
    if well + wrong > 0 then
      local total, failed = count_results(well, wrong)
      if wrong > 0 and total >= MINIMUM and failed / total >= RATIO then trip(floor, why) end
    end
  end
end

local function permits(wanted)
  if held == 'O' then return 0, HELD_LOOK end
  if held == 'C' then state = 'C' end
  if state == 'O' and now >= opened_until then become('H') end
  if state == 'O' then return 0, opened_until - now end
  if wanted == 0 then return 0, -1 end
  local given, wait = wanted, -1
  if state == 'H' then
    if out > 0 and now >= probes_until then out = 0 end
    given = math.min(given, math.max(0, PROBES - out - ok))
    if given == 0 then wait = math.max(1, probes_until - now) end
  end
  if INTERVAL > 0 and given > 0 then
    given = math.min(given, math.floor(level))
    if given == 0 then wait = math.ceil((1 - level) * INTERVAL / 1000) end
    level = level - given
  end
  if state == 'H' and given > 0 then
    call('HSET', K, 'out', out + given, 'probes_until', now + PROBE_LEASE)
  end
  return given, wait
end

refill()
for i = 12, #ARGV, 7 do
  report(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3] == '1', tonumber(ARGV[i + 4]),
    tonumber(ARGV[i + 5]), ARGV[i + 6])
end
local given, wait = permits(tonumber(ARGV[11]))
save_level()
local slow = state == 'C' and not held and math.max(0, closed_at + SLOW_START - now) or 0
return {held or state, gen, given, wait, closed_at > 0 and slow or 0}

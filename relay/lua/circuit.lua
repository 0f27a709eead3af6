-- The state of the circuit of one endpoint. Put before admit.lua when that is loaded.
--
-- KEYS[1] HASH of one endpoint:
--   state         'closed' | 'open' | 'half-open'
--   generation    grows at each change of state
--   until         (ms) an open circuit stays open until then
--   trips         how many times in a row it has opened
--   probes_out    probes in flight
--   probes_ok     probes that succeeded
--   probes_until  (ms) when lost probes are given up
--   slot          number of the current slot, a tenth of the window
--   s0..s9        successes in the last ten slots
--   f0..f9        failures in the last ten slots
--   why, since    (ms) for people
--   closed_at     (ms) of the last closing
--   held          'open' | 'closed' by a person, whatever the state is
--   ok_at         (ms) when the last POST that got a 2xx began, of any ordering key
--   trouble       '<when the first POST failed after that, ms> <hashes of up to three ordering keys that failed since>'
--   few           '1': it has opened while fewer than three ordering keys failed
--   cause         why it has opened: 'asked' (the endpoint said "not now") | 'failing' (the ratio) | 'nobody' (got
--                 through) | 'probe' (failed)
--   history       answers that were no 2xx, up to eight lines: '<status | -> <how often> <first, ms> <last, ms>\n'
--   opened        how often it has opened; opened_first, opened_last (ms): when
--   probe         '<number> <until, ms> <given: 0 | 1>' one attempt that a person has asked for, whatever the state
--   probes        the number of the last one
--   probed        '<number> <ms> <status | - | closed> <why>' what came of the last one that has ended
--   level, at     (us) the token bucket of the pace
-- ARGV[1..7]: window (ms), minimum, ratio, open (ms), cap (ms), probes, probe lease (ms)
-- ARGV[8..9]: pace: us for one delivery (0: no pace), burst;  ARGV[10] slow start (ms)
--
--            ratio over the window, no 2xx for a window, or the endpoint said "not now"
--   closed ----------------------------------------------------------> open, twice as long each time, up to cap
--     ^  ^                                                              |  ^
--     |  +---- the probes succeeded ------ half-open <-- time is up ----+  |
--     |                                     +------- a probe failed -------+
--   held open or closed: from each of them and back, by hold.lua alone; results do not count meanwhile
--
-- While fewer than three ordering keys fail, it may be they that are at fault: then the first 2xx closes it, without a
-- slow start, and it opens for the shortest time, as their own backoff spares the endpoint.
local K = KEYS[1]
local CLOSED, IS_OPEN, HALF_OPEN = 'closed', 'open', 'half-open'
local WINDOW, MINIMUM, RATIO = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local OPEN_FOR, CAP = tonumber(ARGV[4]), tonumber(ARGV[5])
local PROBES, PROBE_LEASE = tonumber(ARGV[6]), tonumber(ARGV[7])
local INTERVAL, BURST = tonumber(ARGV[8]), tonumber(ARGV[9])
local SLOW_START = tonumber(ARGV[10])

local read = call('HMGET', K, 'state', 'generation', 'until', 'trips', 'probes_out', 'probes_ok', 'probes_until',
  'level', 'at', 'held', 'closed_at', 'ok_at', 'trouble', 'probe', 'slot')
local state, generation, open_until = read[1] or CLOSED, tonumber(read[2] or 0), tonumber(read[3] or 0)
local trips, probes_out, probes_ok = tonumber(read[4] or 0), tonumber(read[5] or 0), tonumber(read[6] or 0)
local probes_until = tonumber(read[7] or 0)
local level, at = tonumber(read[8] or BURST), tonumber(read[9] or micros)
local held, closed_at = read[10], tonumber(read[11] or 0)
local ok_at, trouble, probe = tonumber(read[12] or 0), read[13], read[14]
local last_slot = tonumber(read[15])

local function become(new)
  state, generation, probes_out, probes_ok = new, generation + 1, 0, 0
  call('HSET', K, 'state', state, 'generation', generation, 'probes_out', 0, 'probes_ok', 0, 'since', now)
  if new == CLOSED then
    closed_at = now
    call('HSET', K, 'closed_at', now)
  end
end

local function forget_results()
  call('HDEL', K, 'slot', 's0', 's1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9',
    'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9')
end

local function refill()
  if INTERVAL == 0 then return end
  level = math.min(BURST, level + math.max(0, micros - at) / INTERVAL)
  at = micros
end

local function save_level()
  if INTERVAL > 0 then call('HSET', K, 'level', string.format('%.6f', level), 'at', string.format('%d', at)) end
end

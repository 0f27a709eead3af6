-- The state of one endpoint. Put before admit.lua when that is loaded.
--
-- KEYS[1] HASH of one endpoint:
--   state C closed | O open | H half-open;  gen grows at each change of state;  until (ms) an open circuit stays open;
--   trips in a row;  out probes under way;  ok probes that went well;  probes_until (ms) lost probes are given up;
--   slot, o0..o9, k0..k9 results of the last ten slots of the window (o well, k not);  why, since for people;
--   closed_at (ms) of the last closing;  held O or C by a person, whatever the state is;  level, at (us) the pace's bucket
-- ARGV[1..7]: window (ms), minimum, ratio, open (ms), cap (ms), probes, probe lease (ms)
-- ARGV[8..9]: pace: us for one delivery (0: no pace), burst;  ARGV[10] slow start (ms)
--
--            ratio over the window, or the endpoint said "not now"
--   closed ----------------------------------------------------------> open, twice as long each time, up to cap
--     ^  ^                                                              |  ^
--     |  +---- all probes went well ---- half-open <---- time is up ----+  |
--     |                                     +------- a probe failed -------+
--   held open or closed: from each of them and back, by hold.lua alone; results do not count meanwhile
local K = KEYS[1]
local call = redis.call
local WINDOW, MINIMUM, RATIO = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local OPEN, CAP = tonumber(ARGV[4]), tonumber(ARGV[5])
local PROBES, PROBE_LEASE = tonumber(ARGV[6]), tonumber(ARGV[7])
local INTERVAL, BURST = tonumber(ARGV[8]), tonumber(ARGV[9])
local SLOW_START = tonumber(ARGV[10])

local clock = call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local now = math.floor(micros / 1000)

local read = call('HMGET', K, 'state', 'gen', 'until', 'trips', 'out', 'ok', 'probes_until', 'level', 'at',
  'held', 'closed_at')
local state, gen, opened_until = read[1] or 'C', tonumber(read[2] or 0), tonumber(read[3] or 0)
local trips, out, ok = tonumber(read[4] or 0), tonumber(read[5] or 0), tonumber(read[6] or 0)
local probes_until = tonumber(read[7] or 0)
local level, at = tonumber(read[8] or BURST), tonumber(read[9] or micros)
local held, closed_at = read[10], tonumber(read[11] or 0)

local function become(new)
  state, gen, out, ok = new, gen + 1, 0, 0
  call('HSET', K, 'state', state, 'gen', gen, 'out', 0, 'ok', 0, 'since', now)
  if new == 'C' then
    closed_at = now
    call('HSET', K, 'closed_at', now)
  end
end

local function forget_results()
  call('HDEL', K, 'slot', 'o0', 'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7', 'o8', 'o9',
    'k0', 'k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8', 'k9')
end

local function trip(floor, why)
  trips = trips + 1
  opened_until = now + math.max(floor, math.min(CAP, OPEN * 2 ^ math.min(trips - 1, 30)))
  become('O')
  forget_results()
  call('HSET', K, 'until', string.format('%d', opened_until), 'trips', trips, 'why', why)
end

local function refill()
  if INTERVAL == 0 then return end
  level = math.min(BURST, level + math.max(0, micros - at) / INTERVAL)
  at = micros
end

local function save_level()
  if INTERVAL > 0 then call('HSET', K, 'level', string.format('%.6f', level), 'at', string.format('%d', at)) end
end

-- Purpose    Decides requests against all their token buckets, each request all or nothing.
-- Guarantee  A refused request takes nothing from any bucket that enforces; never is more let through than rate and
--            burst allow, whatever the number of gateways. An edited limit keeps its level: a smaller burst clamps it, a
--            larger one does not refill it.
-- KEYS       the buckets, each once: STRING "<level> <at us>", gone when full
-- ARGV       for each request: number of its buckets, then for each of them: index in KEYS, us for one token, burst,
--            and how it enforces: 'e' refuse | 'q' let pass, to be delayed until there is a token | 'o' only observe
-- Return     for each request { index of the bucket that refuses for longest (0: none), us until it would pass,
--            us to delay, { for each of its buckets 1 there was a token | 0 there was none } }
-- Twice      takes twice: it errs on the strict side, and a bucket refills by itself.

local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local levels, changed = {}, {}

local function level(index, interval, burst)
  if levels[index] == nil then
    local found = call('GET', KEYS[index])
    local left, at = burst, now
    if found then
      local text_left, text_at = string.match(found, '^(%S+) (%S+)$')
      left, at = tonumber(text_left), tonumber(text_at)
    end
    levels[index] = left + math.max(0, now - at) / interval
  end
  return math.min(burst, levels[index])
end

local function put(index, left, interval, burst)
  levels[index] = left
  changed[index] = {interval, burst}
end

-- A hair of tolerance: a bucket refilled in 1/3 steps must not fall short of one by a rounding error.
local ONE = 1 - 1e-9

local answers, at = {}, 1
while at <= #ARGV do
  local buckets, first = tonumber(ARGV[at]), at + 1
  at = first + buckets * 4
  local refusing, refused_for, delay, had = 0, 0, 0, {}
  for i = 1, buckets do
    local arg = first + (i - 1) * 4
    local index, interval, burst, how = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), ARGV[arg + 3]
    local left = level(index, interval, burst)
    had[i] = left >= ONE and 1 or 0
    if had[i] == 0 then
      local wait = math.ceil((1 - left) * interval)
      if how == 'e' and (refusing == 0 or wait > refused_for) then refusing, refused_for = i, wait end
      if how == 'q' then delay = math.max(delay, wait) end
    end
  end
  for i = 1, buckets do
    local arg = first + (i - 1) * 4
    local index, interval, burst, how = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), ARGV[arg + 3]
    local taken = how == 'o' and had[i] == 1 or how ~= 'o' and refusing == 0
    if taken then put(index, level(index, interval, burst) - 1, interval, burst) end
  end
  answers[#answers + 1] = {refusing, refused_for, refusing == 0 and delay or 0, had}
end

for index, limit in pairs(changed) do
  local interval, burst = limit[1], limit[2]
  local full_in = math.ceil((burst - levels[index]) * interval / 1000) + 1000
  call('SET', KEYS[index], string.format('%.9f %d', levels[index], now), 'PX', string.format('%d', full_in))
end
return answers

-- Purpose    Decides requests against all their token buckets, each request all or nothing.
-- Guarantee  A refused request takes nothing from any bucket that enforces; never is more let through than rate and
--            burst allow, whatever the number of gateways. An edited limit keeps its level: a smaller burst clamps it, a
--            larger one does not refill it.
-- KEYS       the buckets, each once: STRING "<level> <at us>", gone when full
-- ARGV       1 JSON: { "buckets": for each of KEYS [us for one token, burst],
--                      "requests": for each request its buckets as 4 * (index in KEYS) + how it enforces }
--            how: 0 refuse | 1 let pass, to be delayed until there is a token | 2 only observe
--            One argument, because a client pays for each.
-- Return     for each request { which of its buckets refuses for longest (0: none), us until it would pass, us to delay,
--            the sum of 2^(i-1) over those of its buckets that had a token }
-- Twice      takes twice: it errs on the strict side, and a bucket refills by itself.

local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local asked = cjson.decode(ARGV[1])
local limits, levels, changed = asked.buckets, {}, {}
local REFUSE, DELAY, OBSERVE = 0, 1, 2

local function level(index)
  local interval, burst = limits[index][1], limits[index][2]
  if levels[index] == nil then
    local found = call('GET', KEYS[index])
    local left, at = burst, now
    if found then
      local text_left, text_at = string.match(found, '^(%S+) (%S+)$')
      left, at = tonumber(text_left), tonumber(text_at)
    end
    levels[index] = math.min(burst, left + math.max(0, now - at) / interval)
  end
  return levels[index]
end

-- A hair of tolerance: a bucket refilled in 1/3 steps must not fall short of one by a rounding error.
local ONE = 1 - 1e-9

local answers = {}
for r, request in ipairs(asked.requests) do
  local refusing, refused_for, delay, had, bit = 0, 0, 0, 0, 1
  local taken, observed = {}, {}
  for i, coded in ipairs(request) do
    local how, index = coded % 4, math.floor(coded / 4)
    local left = level(index)
    if left >= ONE then
      had = had + bit
      if how == OBSERVE then observed[#observed + 1] = index end
    else
      local wait = math.ceil((1 - left) * limits[index][1])
      if how == REFUSE and (refusing == 0 or wait > refused_for) then refusing, refused_for = i, wait end
      if how == DELAY then delay = math.max(delay, wait) end
    end
    if how ~= OBSERVE then taken[#taken + 1] = index end
    bit = bit * 2
  end
  for _, index in ipairs(observed) do levels[index], changed[index] = levels[index] - 1, true end
  if refusing == 0 then
    for _, index in ipairs(taken) do levels[index], changed[index] = levels[index] - 1, true end
  end
  answers[r] = {refusing, refused_for, refusing == 0 and delay or 0, had}
end

for index in pairs(changed) do
  local interval, burst = limits[index][1], limits[index][2]
  local full_in = math.ceil((burst - levels[index]) * interval / 1000) + 1000
  call('SET', KEYS[index], string.format('%.9f %d', levels[index], now), 'PX', string.format('%d', full_in))
end
return answers

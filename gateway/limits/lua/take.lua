-- Purpose    Decides requests against all their token buckets, each request all or nothing.
-- Guarantee  A refused request takes nothing from any bucket that enforces; never is more let through than rate and
--            burst allow, whatever the number of gateways. An edited limit keeps its level: a smaller burst clamps it, a
--            larger one does not refill it. (A bucket that nobody touches until it would be full is forgotten; after an
--            edit that is when it would have been full by the numbers it was last touched with.)
-- KEYS       the buckets, each once: STRING of 14 bytes, gone when full:
--              8 a level (double)   6 the moment it is of, in 10 us since 1970
--            Short, names too: a server keeps name, expiry and value together only up to some 64 bytes.
-- ARGV       1 JSON: { "buckets": for each of KEYS [us for one token, burst],
--                      "requests": for each request its buckets as 4 * (index in KEYS) + its mode, which is
--                                  followed by what it costs, as a negative number, where that is not one token }
--            mode: 0 refuse | 1 let pass, to be delayed until there is a token | 2 only observe
--                 | 3 give back what an earlier call took, of a request that another slot has refused
--            One argument, because a client pays for each.
--            batch: only of charges for what passed without the store, a number. Behind the buckets KEYS then has where
--            the last number of its gateway is noted for an hour; a batch of that number or below does nothing.
--            lines: only where requests wait for tokens (over: hold), of each of their buckets that make them wait:
--            [request, place of the bucket in it, index in KEYS of the bucket's line, who waits, us it has waited]
--            Behind the buckets KEYS then has the lines, each once: HASH who waits ->
--              8 since when (us, double)   8 until when that is believed (us, double)   8 what it costs (double)
--            Who waits passes once the bucket has the tokens of all who wait for longer, and its own. It stands in the
--            line from when it is refused for nothing else until it passes, or until 1 s after the moment at which it is
--            told to ask again: so nobody waits for a gateway that was killed.
-- Return     JSON: for each request [ marks, us until it would pass, us to delay, the level of each bucket afterwards ]
--            marks: "" where every bucket had its tokens, else one letter for each: h it had them | r it refuses
--                 | l it lacks them, and refuses nothing. (No sum of bits: numbers leave here with 14 digits.)
--            Behind the requests [ "slow" ] while the time runs slower than the clock, as it is ahead of it (clock.lua).
-- Twice      takes twice: it errs on the strict side, and a bucket refills by itself. A batch of charges takes once.
--            Giving back is asked for once: it may be lost, and is never done twice.

local now = micros
local stamp = math.floor(now / 10)
local asked = cjson.decode(ARGV[1])
if asked.batch then
  local noted = KEYS[#asked.buckets + 1]
  if asked.batch <= tonumber(call('GET', noted) or 0) then return '[]' end
  call('SET', noted, asked.batch, 'EX', 3600)
end
local limits, levels, changed = asked.buckets, {}, {}
local REFUSE, DELAY, OBSERVE, GIVE_BACK = 0, 1, 2, 3

local function level(index)
  if levels[index] == nil then
    local interval, burst = limits[index][1], limits[index][2]
    local found = call('GET', KEYS[index])
    local left = burst
    if found then
      local then_left, at = struct.unpack('>dI6', found)
      left = math.min(burst, then_left + math.max(0, now - at * 10) / interval)
    end
    levels[index] = left
  end
  return levels[index]
end

-- A hair of tolerance: a bucket refilled in 1/3 steps must not fall short of one by a rounding error.
local HAIR = 1e-9

local in_line, lines = {}, {}
for _, it in ipairs(asked.lines or {}) do
  in_line[it[1]] = in_line[it[1]] or {}
  in_line[it[1]][it[2]] = {line = it[3], who = it[4], since = micros - it[5]}
end

local function line(index)
  if lines[index] == nil then
    local found, waiting = call('HGETALL', KEYS[index]), {}
    for n = 1, #found, 2 do
      local since, believed, cost = struct.unpack('>ddd', found[n + 1])
      if believed < micros then call('HDEL', KEYS[index], found[n]) else waiting[found[n]] = {since, cost} end
    end
    lines[index] = waiting
  end
  return lines[index]
end

-- The tokens of those who wait for longer.
local function ahead_of(me)
  local tokens, noted = 0, line(me.line)[me.who]
  if noted then me.since = noted[1] end
  for who, it in pairs(line(me.line)) do
    if who ~= me.who and (it[1] < me.since or (it[1] == me.since and who < me.who)) then tokens = tokens + it[2] end
  end
  return tokens
end

local MOST, GRACE = 30000000, 1000000

local answers = {}
for r, request in ipairs(asked.requests) do
  local waits, holds = in_line[r] or {}, in_line[r] ~= nil
  local refused, refused_for, delay, lacking = false, 0, 0, false
  local indices, modes, costs, marks, told = {}, {}, {}, {}, {}
  for _, coded in ipairs(request) do
    if coded < 0 then
      costs[#costs] = -coded
    else
      indices[#indices + 1], modes[#modes + 1], costs[#costs + 1] = math.floor(coded / 4), coded % 4, 1
    end
  end
  for i, index in ipairs(indices) do
    local left = level(index)
    marks[i] = 'h'
    if modes[i] == GIVE_BACK then
      costs[i] = -math.min(costs[i], limits[index][2] - left)
    elseif left - (waits[i] and ahead_of(waits[i]) or 0) < costs[i] - HAIR then
      local wait = math.ceil((costs[i] + (waits[i] and ahead_of(waits[i]) or 0) - left) * limits[index][1])
      lacking, marks[i], told[i] = true, 'l', wait
      if modes[i] == REFUSE then
        refused, marks[i], refused_for = true, 'r', math.max(refused_for, wait)
        holds = holds and waits[i] ~= nil
      end
      if modes[i] == DELAY then delay = math.max(delay, wait) end
    end
  end
  for i, index in ipairs(indices) do
    local observed = modes[i] == OBSERVE and marks[i] == 'h'
    if observed or (modes[i] ~= OBSERVE and not refused) then
      levels[index], changed[index] = levels[index] - costs[i], true
    end
  end
  for i, me in pairs(waits) do
    if refused and holds and marks[i] == 'r' then
      local believed = micros + math.min(told[i], MOST) + GRACE
      line(me.line)[me.who] = {me.since, costs[i]}
      call('HSET', KEYS[me.line], me.who, struct.pack('>ddd', me.since, believed, costs[i]))
      call('PEXPIRE', KEYS[me.line], (MOST + GRACE) / 1000 + offset)
    elseif line(me.line)[me.who] then
      line(me.line)[me.who] = nil
      call('HDEL', KEYS[me.line], me.who)
    end
  end
  local answer = {lacking and table.concat(marks) or '', refused_for, refused and 0 or delay}
  for i, index in ipairs(indices) do answer[3 + i] = levels[index] end
  answers[r] = answer
end

if offset > 0 then answers[#answers + 1] = {'slow'} end
for index in pairs(changed) do
  local interval, burst = limits[index][1], limits[index][2]
  local full_in = math.ceil((burst - levels[index]) * interval / 1000) + 1000 + offset  -- by the store's own clock
  local at_stamp = levels[index] - (now - stamp * 10) / interval
  call('SET', KEYS[index], struct.pack('>dI6', at_stamp, stamp), 'PX', full_in)
end
return cjson.encode(answers)

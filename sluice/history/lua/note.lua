-- Purpose    Adds what one process has counted, or what a gateway has seen, to the rings of the charts.
-- Guarantee  Each part is added once. Of a chart there are no more series than ARGV says, and one of each side of it
--            for all others; one that was not written for as long as the longest ring reaches makes room.
-- KEYS       1 hour  2 day  3 fortnight   HASH <step % length>: the step, then the value of each series by its number,
--                                         as doubles, least byte first; not a number: none
--            4 series                     HASH "<chart>\0<of>\0<what>": "<number> <hour in which it was written last>"
--            5 writers                    HASH <process>: "<its last part> <when, ms>"; ":look": step of the last look
-- ARGV       1 process  2 number of its part  3 how long ago it was counted (ms)  4 '1': it would look, too
--            5 the most series of a chart  6.. of each ring: ms of a step, steps
--            then for each value: sum | max | last, name of its series, name of the series of the others, value
-- Return     {ms until the next step of the first ring begins, 1: the caller is to look for all}
-- Twice      adds nothing the second time, as the number of the part is not greater than the last; then nobody looks.

local RINGS, VALUES = 3, 12
local HOUR, FORGET_AFTER = 3600000, 3600000  -- ms; the second: longer than anybody tries to bring a part
local series, writers = KEYS[4], KEYS[5]
local process, part, at = ARGV[1], tonumber(ARGV[2]), now - math.max(0, tonumber(ARGV[3]))
local step, hour = tonumber(ARGV[6]), math.floor(now / HOUR)
local answer = {step - now % step, 0}

local known = call('HGET', writers, process)
if known and tonumber(string.match(known, '^%d+')) >= part then return answer end
if not known then
  local all = call('HGETALL', writers)
  for i = 1, #all, 2 do
    local seen = tonumber(string.match(all[i + 1], ' (%d+)$'))
    if seen and now - seen > FORGET_AFTER then call('HDEL', writers, all[i]) end
  end
end
call('HSET', writers, process, string.format('%d %.0f', part, now))
local this = string.format('%.0f', math.floor(now / step))
if ARGV[4] == '1' and call('HGET', writers, ':look') ~= this then
  call('HSET', writers, ':look', this)
  answer[2] = 1
end

-- A number for the series of this name. The whole table is read only where a name is new.
local numbers, last_hours
local function read_table()
  if numbers then return end
  numbers, last_hours = {}, {}
  local all = call('HGETALL', series)
  for i = 1, #all, 2 do
    local number, last = string.match(all[i + 1], '^(%d+) (%d+)$')
    numbers[all[i]], last_hours[all[i]] = tonumber(number), tonumber(last)
  end
end
local function add(name, number)
  numbers[name], last_hours[name] = number, hour
  call('HSET', series, name, string.format('%d %d', number, hour))
  return number
end
local function next_number()
  local used, number = {}, 1
  for _, taken in pairs(numbers) do used[taken] = true end
  while used[number] do number = number + 1 end
  return number
end
local function number_of_new(name, others)
  read_table()
  if numbers[name] then return numbers[name] end
  local chart, of_chart, oldest = string.match(name, '^%Z*%z'), 0, nil
  for one in pairs(numbers) do
    if string.sub(one, 1, #chart) == chart and string.sub(one, 1, #chart + 2) ~= chart .. '*\0' then
      of_chart = of_chart + 1
      if not oldest or last_hours[one] < last_hours[oldest] then oldest = one end
    end
  end
  if name == others or of_chart < tonumber(ARGV[5]) then return add(name, next_number()) end
  if hour - last_hours[oldest] > tonumber(ARGV[VALUES - 1]) then
    local number = numbers[oldest]
    numbers[oldest] = nil
    call('HDEL', series, oldest)
    return add(name, number)
  end
  return numbers[others] or add(others, next_number())
end

local given = {}  -- by the number of the series: {rule, value}
for i = VALUES, #ARGV, 4 do
  local rule, name, value = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
  local place, number = call('HGET', series, name), nil
  if place then
    local known_number, last = string.match(place, '^(%d+) (%d+)$')
    number = tonumber(known_number)
    if tonumber(last) < hour then call('HSET', series, name, string.format('%d %d', number, hour)) end
  else
    number = number_of_new(name, ARGV[i + 2])
  end
  local before = given[number]
  if not before then given[number] = {rule, value}
  elseif rule == 'max' then before[2] = math.max(before[2], value)
  else before[2] = before[2] + value end
end

local NONE = 0 / 0
for ring = 1, RINGS do
  local length = tonumber(ARGV[5 + 2 * ring])
  local number = math.floor(at / ARGV[4 + 2 * ring])
  local place = string.format('%d', number % length)
  local packed = call('HGET', KEYS[ring], place)
  local row = packed and {struct.unpack('<' .. string.rep('d', #packed / 8), packed)} or {0}
  if packed then row[#row] = nil end  -- where unpacking ended
  if row[1] < number then row = {number} end
  if row[1] == number then  -- not that of a later lap
    for one, new in pairs(given) do
      for missing = #row + 1, one + 1 do row[missing] = NONE end
      local rule, value, old = new[1], new[2], row[one + 1]
      if old == old and rule == 'sum' then value = value + old
      elseif old == old and rule == 'max' then value = math.max(value, old) end
      row[one + 1] = value
    end
    call('HSET', KEYS[ring], place, struct.pack('<' .. string.rep('d', #row), unpack(row)))
  end
end
return answer

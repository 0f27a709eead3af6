-- Purpose    A session says that it is connected, before Laravel hears of it: decides whether it stays, and in which order
--            Laravel hears of those of one phone.
-- Guarantee  The order is that of the decisions: the last one of a phone that is announced is the one that stays. One that
--            yields to another is not announced, as Laravel would remove the row of the other; nor is one that has lost its
--            own row to one that is connected.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 existing worker that says so; '': it is proven by the fence  3 that fence  4 phone; '': as it was
--            5 allowed moves of the state  6 who stays of several with one phone
-- Return     {0}: nobody can say, as it is not that worker's; {1, in whose favour it yields or '', its order (ms)}
-- Twice      the second one comes later in the order.

local ENDED_LATELY = 60 * 1000
local record = record_of(ARGV[1])
if not record or record.reserved == 1 or record.leaving == '!' then return {0} end
local holder, existing = record.worker ~= '' and record.worker or record.last, ARGV[2] ~= ''
if existing and holder ~= ARGV[2] or not existing and (record.worker == '' or record.fence ~= tonumber(ARGV[3])) then
  return {0}
end
if record.ended ~= '' then
  if existing and now - record.since > ENDED_LATELY then return {0} end -- it may be run anew, past us
  return {1, record.reason, '0'}
end

-- Laravel has removed its row when it was told of that one.
local function who_has_its_row()
  local prefix = record.announced > 0 and phone_prefix(record)
  if not prefix then return end
  local from, to = range_of(prefix)
  for _, member in ipairs(call('ZRANGEBYLEX', phones, from, to, 'LIMIT', 0, PHONE_AT_ONCE)) do
    local session = string.sub(member, #prefix + 1)
    local other = session ~= record.session and record_of(session)
    if other and other.announced > record.announced then return session end
  end
end

local phone = ARGV[4] ~= '' and ARGV[4] or record.phone
local again = record.again
record.again = 0
if (report(record, 'connected', phone, '', ARGV[5], holder) or again > 0) and record.worker ~= '' then
  one_phone(record, ARGV[6], holder)
end
if record.ended ~= '' then return done({1, record.reason, '0'}) end
local yields = record.rival ~= '' and record.rival or who_has_its_row()
if yields then
  save(record)
  return done({1, yields, '0'})
end
record.announced = math.max(now, tonumber(call('HGET', numbers, 'announced') or 0) + 1)
call('HSET', numbers, 'announced', digits(record.announced))
save(record)
return done({1, '', digits(record.announced)})

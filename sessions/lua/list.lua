-- Purpose    Sessions, for people: a page of them, or those that are named.
-- Guarantee  Each row as of one moment; who asks page after page gets every session that is there all the while. Reads
--            only. Costs as much as it returns.
-- KEYS       see prelude.lua
-- ARGV       1 '': those that are named, else where to go on ('0': the beginning)  2 about how many  then the sessions
-- Return     {now, where to go on ('0': that was all), {session, what is known (JSON), state, "<fence> <worker>" of
--             its owner, the owner's URL, when its lease ends, …}}; owner and URL are '' where nobody has it
-- Twice      is a second look.

local go_on, found = '0', {}
if ARGV[1] == '' then
  for i = 3, #ARGV do
    local about = redis.call('HGET', wanted, ARGV[i])
    if about then
      table.insert(found, ARGV[i])
      table.insert(found, about)
    end
  end
else
  go_on, found = unpack(redis.call('HSCAN', wanted, ARGV[1], 'COUNT', ARGV[2]))
end

local rows, urls = {}, {}
for i = 1, #found, 2 do
  local session = found[i]
  local holder, ends = holder_of(session), lease_of(session)
  local owned = holder and ends > now
  if owned and not urls[holder] then urls[holder] = worker_of(holder).url end
  for _, value in ipairs({
    session, found[i + 1], redis.call('HGET', states, session), owned and redis.call('HGET', owners, session) or '',
    owned and urls[holder] or '', digits(ends),
  }) do table.insert(rows, value) end
end
return {now, go_on, rows}

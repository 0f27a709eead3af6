-- What the scripts share that take waiting events out of a queue. Put after partition.lua when they are loaded.

-- Whether somebody holds it. A lease that is over covers nothing any more.
local function is_leased(stream, seq)
  local lease = call('HGET', LEASES, stream)
  if not lease then return false end
  if tonumber(call('ZSCORE', lane(stream), stream) or 0) <= now then
    call('HDEL', LEASES, stream)
    return false
  end
  return seq <= tonumber(match(lease, '^%d+ (%d+) '))
end

-- The same lease; where nothing follows what it covers any more, it says so.
local function without_follower(stream, lease)
  local last = match(lease, '^%d+ (%d+) ')
  local follower = call('ZRANGEBYLEX', QUEUE, '(' .. stream .. '\0' .. last .. '\1', '(' .. stream .. '\1', 'LIMIT', 0, 1)
  if follower[1] then return lease end
  return (string.gsub(lease, '^(%d+ %d+) 1 ', '%1 0 ', 1))
end

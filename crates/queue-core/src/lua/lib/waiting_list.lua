-- waiting_list: messages become ready, at the head or at the tail of the waiting list, each at its priority. A message
-- that was removed from the middle and still stands in the list takes that place again, so that no id ever stands there
-- twice. Answers whether nothing was ready before.
-- KEYS options waiting prioritized removed returned
-- USES layout fields

-- `ids` were just put into the list at priority 0, where some stood already, marked as removed.
local function take_places_again(ids, push)
  local standing, others = {}, {}
  for i, stands in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    local those = stands == 1 and standing or others
    those[#those + 1] = ids[i]
  end
  if #standing == 0 then return end
  redis.call(push == 'RPUSH' and 'RPOP' or 'LPOP', WAITING, #ids)
  redis.call('SREM', REMOVED, unpack(standing))
  if #others > 0 then redis.call(push, WAITING, unpack(others)) end
end

local function join_waiting(ids, push)
  if purged_to then
    for _, id in ipairs(ids) do
      if id <= purged_to then redis.call('SADD', RETURNED, id) end
    end
  end
  local plain, ranked = ids, {}
  if redis.call('HLEN', OPTIONS) > 0 then
    plain = {}
    for i, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
      local priority = tonumber(field(options, 'p')) or 0
      if priority == 0 then
        plain[#plain + 1] = ids[i]
      else
        ranked[#ranked + 1] = priority
        ranked[#ranked + 1] = ids[i]
      end
    end
  end
  local was_empty = false
  if #plain > 0 then
    local length = redis.call(push, WAITING, unpack(plain))
    was_empty = length == #plain
    if not was_empty then
      -- A message that was removed but still stands in the list is not ready.
      local gone = redis.call('SCARD', REMOVED)
      was_empty = length - gone == #plain
      if gone > 0 then take_places_again(plain, push) end
    end
  end
  if #ranked > 0 then
    redis.call('ZADD', PRIORITIZED, unpack(ranked))
    was_empty = was_empty or redis.call('ZCARD', PRIORITIZED) == #ranked / 2
  end
  return was_empty
end

local function join_tail(ids)
  return join_waiting(ids, 'RPUSH')
end

-- The first of `ids` will be the first of the waiting list.
local function join_head(ids)
  local reversed = {}
  for i = #ids, 1, -1 do
    reversed[#reversed + 1] = ids[i]
  end
  return join_waiting(reversed, 'LPUSH')
end

-- Takes messages out of the waiting list, wherever they stand there. In the list they stay until they come up, and are
-- skipped.
local function leave_waiting(ids)
  for _, id in ipairs(ids) do
    if redis.call('ZREM', PRIORITIZED, id) == 0 then
      redis.call('SADD', REMOVED, id)
    end
  end
end

local function anything_is_ready()
  local waiting = redis.call('LLEN', WAITING)
  if redis.call('EXISTS', PRIORITIZED, REMOVED) == 0 then return waiting > 0 end
  return redis.call('EXISTS', PRIORITIZED) == 1 or waiting > redis.call('SCARD', REMOVED)
end

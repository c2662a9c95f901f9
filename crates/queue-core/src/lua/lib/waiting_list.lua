-- waiting_list: adds messages at the head or the tail of the waiting list, each at its priority, and removes them. A message
-- that was removed but whose id is still in the list gets its old position again, so that no id is ever in the list twice.
-- The functions that add messages return whether a wake-up is necessary: they made messages ready at priority 0, or at other
-- priorities, and none was ready there before.
-- KEYS options waiting prioritized removed returned
-- USES meta fields

-- `ids` were just pushed to the list. Those that were already in it, marked as removed, are unmarked and do not stay there twice.
local function restore_removed_ids(ids, push)
  local restored, others = {}, {}
  for i, is_in_list in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    local target = is_in_list == 1 and restored or others
    target[#target + 1] = ids[i]
  end
  if #restored == 0 then return end
  redis.call(push == 'RPUSH' and 'RPOP' or 'LPOP', WAITING, #ids)
  redis.call('SREM', REMOVED, unpack(restored))
  if #others > 0 then redis.call(push, WAITING, unpack(others)) end
end

local function push_ready(ids, push)
  if meta.purged_to then
    for _, id in ipairs(ids) do
      if id <= meta.purged_to then redis.call('SADD', RETURNED, id) end
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
      -- Removed messages whose ids are still in the list do not count.
      local removed = redis.call('SCARD', REMOVED)
      was_empty = length - removed == #plain
      if removed > 0 then restore_removed_ids(plain, push) end
    end
  end
  if #ranked > 0 then
    redis.call('ZADD', PRIORITIZED, unpack(ranked))
    was_empty = was_empty or redis.call('ZCARD', PRIORITIZED) == #ranked / 2
  end
  return was_empty
end

local function push_tail(ids)
  return push_ready(ids, 'RPUSH')
end

-- The first of `ids` becomes the first of the waiting list.
local function push_head(ids)
  local reversed = {}
  for i = #ids, 1, -1 do
    reversed[#reversed + 1] = ids[i]
  end
  return push_ready(reversed, 'LPUSH')
end

-- Removes messages from the waiting list. At priority 0 the ids stay in the list, marked as removed; they are skipped when
-- they reach the head.
local function remove_from_waiting_list(ids)
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

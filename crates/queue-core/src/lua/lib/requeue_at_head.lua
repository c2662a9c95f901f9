-- requeue_at_head: puts messages that were leased before back at the head of the waiting list. In an exclusive queue all messages
-- that were put back are kept in the order posted; their number is at most the queue's parallel limit. The function returns whether
-- a wake-up is necessary; the fragment `waiting_list` defines when.
-- KEYS waiting runs removed
-- USES meta run waiting_list
local function was_leased_before(text)
  if not text then return false end
  local run = parse_run(text)
  return run.settled ~= '' or string.byte(run.token) == 33
end

local function requeue_at_head(ids)
  local index_in_list = 0
  if meta.exclusive then
    -- Ids of removed messages that have reached the head of the waiting list are dropped.
    local head_ids = redis.call('LRANGE', WAITING, 0, (tonumber(string.match(meta.exclusive, '%d+')) or 1) + 99)
    local runs = #head_ids > 0 and redis.call('HMGET', RUNS, unpack(head_ids)) or {}
    local is_removed = #head_ids > 0 and redis.call('SMISMEMBER', REMOVED, unpack(head_ids)) or {}
    local dropped_ids = {}
    while index_in_list < #head_ids and (is_removed[index_in_list + 1] == 1 or was_leased_before(runs[index_in_list + 1])) do
      index_in_list = index_in_list + 1
      local target_ids = is_removed[index_in_list] == 1 and dropped_ids or ids
      target_ids[#target_ids + 1] = head_ids[index_in_list]
    end
    if index_in_list > 0 then redis.call('LTRIM', WAITING, index_in_list, -1) end
    if #dropped_ids > 0 then redis.call('SREM', REMOVED, unpack(dropped_ids)) end
  end
  table.sort(ids)
  return push_head(ids) and index_in_list == 0
end

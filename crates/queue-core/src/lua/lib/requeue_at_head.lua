-- requeue_at_head: returns messages that were handed out before to the head of the waiting list. In an exclusive queue all
-- returned messages at the head are kept in the order posted; their number is at most the queue's parallel limit. The function
-- returns whether a wake-up is necessary, as in `waiting_list`.
-- KEYS waiting runs removed
-- USES meta run waiting_list
local function was_delivered(text)
  if not text then return false end
  local run = parse_run(text)
  return run.settled ~= '' or string.byte(run.token) == 33
end

local function requeue_at_head(ids)
  local before = 0
  if meta.exclusive then
    -- Ids of removed messages that have reached the head are dropped.
    local head = redis.call('LRANGE', WAITING, 0, (tonumber(string.match(meta.exclusive, '%d+')) or 1) + 99)
    local runs = #head > 0 and redis.call('HMGET', RUNS, unpack(head)) or {}
    local is_removed = #head > 0 and redis.call('SMISMEMBER', REMOVED, unpack(head)) or {}
    local dropped = {}
    while before < #head and (is_removed[before + 1] == 1 or was_delivered(runs[before + 1])) do
      before = before + 1
      local target = is_removed[before] == 1 and dropped or ids
      target[#target + 1] = head[before]
    end
    if before > 0 then redis.call('LTRIM', WAITING, before, -1) end
    if #dropped > 0 then redis.call('SREM', REMOVED, unpack(dropped)) end
  end
  table.sort(ids)
  return push_head(ids) and before == 0
end

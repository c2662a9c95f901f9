-- promote_due: moves due messages to the tail of the waiting list in the order of their due times, those with equal due times in
-- the order posted. In an exclusive queue a message in back-off blocks the queue, so it moves to the head. Returns whether a
-- wake-up is necessary, as in `waiting_list`.
-- KEYS delayed blocking
-- USES instants events waiting_list requeue_at_head
local function describe_promoted()
  return 'promoted'
end

local function promote(limit)
  local due = redis.call('ZRANGE', DELAYED, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
  if #due == 0 then return false end
  redis.call('ZREMRANGEBYRANK', DELAYED, 0, #due - 1)
  record_events(due, describe_promoted)
  if redis.call('EXISTS', BLOCKING) == 0 then
    return push_tail(due)
  end
  local head, tail = {}, {}
  for i, blocks in ipairs(redis.call('SMISMEMBER', BLOCKING, unpack(due))) do
    local list = blocks == 1 and head or tail
    list[#list + 1] = due[i]
  end
  local was_empty = #tail > 0 and push_tail(tail)
  if #head > 0 then
    redis.call('SREM', BLOCKING, unpack(head))
    was_empty = requeue_at_head(head) or was_empty
  end
  return was_empty
end

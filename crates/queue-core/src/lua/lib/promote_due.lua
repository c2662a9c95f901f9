-- promote_due: moves due messages to the tail of the waiting list in the order of their due times, and messages with equal due times in
-- the order posted. No message of an exclusive queue overtakes a message in back-off, so a message whose back-off ends moves to the
-- head of the waiting list. If a due message was leased before and has a group, the message goes before the other messages of its
-- group. Returns whether a wake-up is necessary; the fragment `waiting_list` defines when.
-- KEYS delayed blocking
-- USES instants events groups waiting_list requeue_at_head delivered
local function describe_promoted()
  return 'promoted'
end

local function promote(limit)
  if groups.unfinished > 0 then limit = MAX_RUNS end
  local due_ids = redis.call('ZRANGE', DELAYED, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
  if #due_ids == 0 then return false end
  redis.call('ZREMRANGEBYRANK', DELAYED, 0, #due_ids - 1)
  record_events(due_ids, describe_promoted)
  local are_delivered = find_delivered(due_ids)
  if redis.call('EXISTS', BLOCKING) == 0 then
    return push_tail(due_ids, are_delivered)
  end
  local head_ids, tail_ids = {}, {}
  for i, blocks in ipairs(redis.call('SMISMEMBER', BLOCKING, unpack(due_ids))) do
    local target_ids = blocks == 1 and head_ids or tail_ids
    target_ids[#target_ids + 1] = due_ids[i]
  end
  local was_empty = #tail_ids > 0 and push_tail(tail_ids, are_delivered)
  if #head_ids > 0 then
    redis.call('SREM', BLOCKING, unpack(head_ids))
    was_empty = requeue_at_head(head_ids) or was_empty
  end
  return was_empty
end

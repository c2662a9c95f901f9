-- due: delayed messages whose time has come join the tail of the waiting list, by due time, then as posted; those that
-- backed off in an exclusive queue join its head, for they held it. Answers whether nothing was ready before.
-- KEYS delayed blocking
-- USES instants events waiting_list front
local function describe_promoted()
  return 'promoted'
end

local function promote(limit)
  local due = redis.call('ZRANGE', DELAYED, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
  if #due == 0 then return false end
  redis.call('ZREMRANGEBYRANK', DELAYED, 0, #due - 1)
  record_events(due, describe_promoted)
  if redis.call('EXISTS', BLOCKING) == 0 then
    return join_tail(due)
  end
  local head, tail = {}, {}
  for i, blocks in ipairs(redis.call('SMISMEMBER', BLOCKING, unpack(due))) do
    local line = blocks == 1 and head or tail
    line[#line + 1] = due[i]
  end
  local was_empty = #tail > 0 and join_tail(tail)
  if #head > 0 then
    redis.call('SREM', BLOCKING, unpack(head))
    was_empty = join_front(head) or was_empty
  end
  return was_empty
end

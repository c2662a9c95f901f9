-- front: messages that were handed out before come back to the head of the line. In an exclusive queue they stand there
-- in the order posted, however many came back at different times: no more than run in parallel.
local function join_front(ids)
  local before = 0
  if set.exclusive then
    local first = redis.call('LRANGE', WAITING, 0, tonumber(set.exclusive) - 1)
    local runs = #first > 0 and redis.call('HMGET', RUNS, unpack(first)) or {}
    while before < #first and runs[before + 1] do
      before = before + 1
      ids[#ids + 1] = first[before]
    end
    if before > 0 then redis.call('LTRIM', WAITING, before, -1) end
  end
  table.sort(ids)
  return join_head(ids) and before == 0
end

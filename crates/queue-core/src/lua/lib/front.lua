-- front: messages that were handed out before come back to the head of the waiting list. In an exclusive queue they stand
-- there in the order posted, however many came back at different times: no more than run in parallel.
-- KEYS waiting runs removed
-- USES settings run waiting_list
local function was_delivered(text)
  if not text then return false end
  local run = parse_run(text)
  return run.settled ~= '' or string.byte(run.token) == 33
end

local function join_front(ids)
  local before = 0
  if set.exclusive then
    -- A removed message is dropped now that it has come to the head.
    local first = redis.call('LRANGE', WAITING, 0, (tonumber(string.match(set.exclusive, '%d+')) or 1) + 99)
    local runs = #first > 0 and redis.call('HMGET', RUNS, unpack(first)) or {}
    local gone = #first > 0 and redis.call('SMISMEMBER', REMOVED, unpack(first)) or {}
    local dropped = {}
    while before < #first and (gone[before + 1] == 1 or was_delivered(runs[before + 1])) do
      before = before + 1
      local line = gone[before] == 1 and dropped or ids
      line[#line + 1] = first[before]
    end
    if before > 0 then redis.call('LTRIM', WAITING, before, -1) end
    if #dropped > 0 then redis.call('SREM', REMOVED, unpack(dropped)) end
  end
  table.sort(ids)
  return join_head(ids) and before == 0
end

-- comeback: messages whose lease is over but which have not finished. Gathered with `come_back`, written by
-- `write_comebacks`, which answers whether nothing was ready before.
local comebacks = { runs = {}, delayed = {}, blocking = {}, head = {}, tail = {}, earliest = math.huge }

-- After a pause (ms), or at once at the 'head' or 'tail' of the line. Answers the state.
local function come_back(id, run, pause, place)
  comebacks.runs[#comebacks.runs + 1] = id
  comebacks.runs[#comebacks.runs + 1] = run
  if pause > 0 then
    comebacks.delayed[#comebacks.delayed + 1] = now + pause
    comebacks.delayed[#comebacks.delayed + 1] = id
    comebacks.earliest = math.min(comebacks.earliest, now + pause)
    if set.exclusive then comebacks.blocking[#comebacks.blocking + 1] = id end
    return 'delayed'
  end
  -- In an exclusive queue the order is kept, so nothing overtakes what comes back.
  local line = set.exclusive and comebacks.head or comebacks[place]
  line[#line + 1] = id
  return 'waiting'
end

-- A message that was handed out but not worked on may expire again.
local function may_expire_again(id, options, run)
  local instant = tonumber(field(options, 'e'))
  if instant and run.attempts == 0 and run.lapses == 0 then
    redis.call('ZADD', EXPIRING, instant, id)
    look_at(math.max(instant, now))
  end
end

local function write_comebacks()
  if #comebacks.runs == 0 then return false end
  redis.call('HSET', RUNS, unpack(comebacks.runs))
  local was_empty = false
  if #comebacks.head > 0 then was_empty = join_front(comebacks.head) end
  if #comebacks.tail > 0 then was_empty = join_tail(comebacks.tail) or was_empty end
  if #comebacks.delayed > 0 then
    redis.call('ZADD', DELAYED, unpack(comebacks.delayed))
    look_at(comebacks.earliest)
  end
  if #comebacks.blocking > 0 then redis.call('SADD', BLOCKING, unpack(comebacks.blocking)) end
  comebacks = { runs = {}, delayed = {}, blocking = {}, head = {}, tail = {}, earliest = math.huge }
  return was_empty
end

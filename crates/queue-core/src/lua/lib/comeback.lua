-- comeback: messages whose lease is over but which have not finished. Gathered with `come_back`, written by
-- `write_comebacks`, which answers whether nothing was ready before.
-- KEYS delayed runs expiring blocking
-- USES clock settings fields run events line watch front
local function nothing_came_back()
  return { ids = {}, dues = {}, runs = {}, delayed = {}, blocking = {}, head = {}, tail = {}, earliest = math.huge }
end
local comebacks = nothing_came_back()

-- After a pause (ms), or at once at the 'head' or 'tail' of the line. Answers the state.
local function come_back(id, run, pause, place)
  comebacks.ids[#comebacks.ids + 1] = id
  comebacks.dues[#comebacks.ids] = pause > 0 and '\td' .. now + pause or ''
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

-- How it came back stands in its run.
local function describe_comeback(_, i)
  local run = parse_run(comebacks.runs[2 * i])
  local how = string.byte(run.token) == 33 and 'lapsed' or string.sub(run.settled, 1, 1) == 'f' and 'retried' or 'released'
  if how ~= 'retried' then return how, attempt_of(run, 1) .. comebacks.dues[i] end
  return how, attempt_of(run, 0) .. comebacks.dues[i], string.match(run.error, '^%d+ %d+ (.*)$')
end

local function write_comebacks()
  if #comebacks.runs == 0 then return false end
  redis.call('HSET', RUNS, unpack(comebacks.runs))
  tell(comebacks.ids, describe_comeback)
  local was_empty = false
  if #comebacks.head > 0 then was_empty = join_front(comebacks.head) end
  if #comebacks.tail > 0 then was_empty = join_tail(comebacks.tail) or was_empty end
  if #comebacks.delayed > 0 then
    redis.call('ZADD', DELAYED, unpack(comebacks.delayed))
    look_at(comebacks.earliest)
  end
  if #comebacks.blocking > 0 then redis.call('SADD', BLOCKING, unpack(comebacks.blocking)) end
  comebacks = nothing_came_back()
  return was_empty
end

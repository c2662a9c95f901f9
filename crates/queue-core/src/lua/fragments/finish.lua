-- finish: messages become completed or failed. Gathered with `finish`, written by `write_finished` in a few variadic
-- calls, counted, and told to those who wait for one of them.
-- An outcome is a letter (c or f), the instant (ms), a tab, the run as it was, a line feed, and the JSON of the result
-- or error.
local finished = { outcomes = {}, ids = {}, completed = {}, failed = {} }

local function finish(id, letter, run, json)
  finished.ids[#finished.ids + 1] = id
  finished.outcomes[#finished.outcomes + 1] = id
  finished.outcomes[#finished.outcomes + 1] = letter .. now .. '\t' .. run .. '\n' .. json
  if letter == 'c' then
    finished.completed[#finished.completed + 1] = id
  else
    finished.failed[#finished.failed + 1] = now
    finished.failed[#finished.failed + 1] = id
  end
end

local function tell_waiters(ids)
  if redis.call('EXISTS', AWAITED) == 0 then return end
  local until_when = redis.call('ZMSCORE', AWAITED, unpack(ids))
  for i, id in ipairs(ids) do
    if until_when[i] then
      redis.call('PUBLISH', 'drover:finished', string.match(META, '{(.-)}') .. '\t' .. id)
    end
  end
  redis.call('ZREM', AWAITED, unpack(ids))
end

local function write_finished()
  if #finished.ids == 0 then return end
  redis.call('HSET', OUTCOMES, unpack(finished.outcomes))
  redis.call('HDEL', RUNS, unpack(finished.ids))
  if #finished.completed > 0 then
    redis.call('RPUSH', COMPLETED, unpack(finished.completed))
    redis.call('HINCRBY', META, 'total:completed', #finished.completed)
  end
  if #finished.failed > 0 then
    redis.call('ZADD', FAILED, unpack(finished.failed))
    redis.call('HINCRBY', META, 'total:failed', #finished.failed / 2)
  end
  tell_waiters(finished.ids)
end

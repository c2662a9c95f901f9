-- trim: finished messages are forgotten by age and by count, whichever is passed first, but not before `min_age`;
-- a bounded number a call.
local function forget(ids)
  redis.call('HDEL', MESSAGES, unpack(ids))
  redis.call('HDEL', OUTCOMES, unpack(ids))
  if redis.call('HLEN', OPTIONS) == 0 then return end
  if redis.call('HLEN', ALIASES) > 0 then
    local own_ids = {}
    for _, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
      own_ids[#own_ids + 1] = field(options, 'i')
    end
    if #own_ids > 0 then redis.call('HDEL', ALIASES, unpack(own_ids)) end
  end
  redis.call('HDEL', OPTIONS, unpack(ids))
end

-- `retention` is "age,count,min_age" (ms, messages, ms).
local function limits_of(retention)
  local age, count, min_age = string.match(retention, '^(%d+),(%d+),(%d+)$')
  return now - age, tonumber(count), now - min_age
end

-- `completed` is a list in the order of finishing, so if the k-th may go, all before it may. Tries the largest k
-- first, then halves.
local function trim_completed(retention, limit)
  local too_old, count, old_enough = limits_of(retention)
  local length = redis.call('LLEN', COMPLETED)
  local k = math.min(limit, length)
  while k > 0 do
    local id = redis.call('LINDEX', COMPLETED, k - 1)
    local outcome = redis.call('HGET', OUTCOMES, id)
    local at = outcome and tonumber(string.match(outcome, '^.(%d+)')) or 0
    if at <= too_old or (at <= old_enough and k <= length - count) then
      forget(redis.call('LPOP', COMPLETED, k))
      return
    end
    k = math.floor(k / 2)
  end
end

local function trim_failed(retention, limit)
  local too_old, count, old_enough = limits_of(retention)
  local ids = redis.call('ZRANGE', FAILED, '-inf', too_old, 'BYSCORE', 'LIMIT', 0, limit)
  local excess = math.min(limit, redis.call('ZCARD', FAILED) - count)
  if excess > #ids then
    ids = redis.call('ZRANGE', FAILED, '-inf', old_enough, 'BYSCORE', 'LIMIT', 0, excess)
  end
  if #ids == 0 then return end
  redis.call('ZREM', FAILED, unpack(ids))
  forget(ids)
end

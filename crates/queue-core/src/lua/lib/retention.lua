-- retention: tells how long finished messages are kept: until a message is older than `age`, or until more than `count` messages are
-- kept and the message is older than `min_age`.
-- KEYS meta completed failed outcomes erased
-- USES meta clock

-- Returns the age (ms), the count and the minimum age (ms) of the setting `retention.completed` or `retention.failed`.
local parsed_limits = {}
local function limits_of(kind)
  local limits = parsed_limits[kind]
  if not limits then
    local limits_pattern = '^{"age":(%d+),"count":(%d+),"min_age":(%d+)}$'
    local age, max_count, min_age = string.match(meta['retention.' .. kind], limits_pattern)
    if not age then
      -- If Drover did not write the stored value of the setting `retention`, the default of this setting applies.
      age, max_count, min_age = string.match(kind == 'failed' and RETENTION_FAILED or RETENTION_COMPLETED, limits_pattern)
    end
    limits = { age = tonumber(age), count = tonumber(max_count), min_age = tonumber(min_age) }
    parsed_limits[kind] = limits
  end
  return limits
end

local function finished_at(id)
  local outcome = id and redis.call('HGET', OUTCOMES, id)
  return outcome and tonumber(string.match(outcome, '^.(%d+)'))
end

-- Removes the first k ids of the list `completed`. The field `trimmed` of `meta` counts all ids that ever left the head of the list,
-- so that a position counted from the first message that ever completed stays valid.
local function pop_completed(removed_count)
  redis.call('HINCRBY', META, 'trimmed', removed_count)
  return redis.call('LPOP', COMPLETED, removed_count)
end

-- Returns the instant (ms) at which the next finished message may be forgotten. The returned instant is not later than now if a
-- message may be forgotten now.
local function next_trim()
  local function trimmed_at(limits, finish_instant, count)
    if count <= limits.count then return math.min(finish_instant, now) + limits.age end
    return finish_instant > now and now or finish_instant + limits.min_age
  end
  local earliest_trim_at = math.huge
  local completed_count = redis.call('LLEN', COMPLETED)
  if completed_count > 0 then
    local finish_instant = finished_at(redis.call('LINDEX', COMPLETED, 0))
    -- A message without an outcome was erased; only its id is left in the list `completed`.
    if not finish_instant then return now end
    earliest_trim_at = trimmed_at(limits_of('completed'), finish_instant, completed_count - redis.call('SCARD', ERASED))
  end
  local first_failed = redis.call('ZRANGE', FAILED, '0', '0', 'WITHSCORES')
  if first_failed[2] then
    earliest_trim_at = math.min(earliest_trim_at, trimmed_at(limits_of('failed'), tonumber(first_failed[2]), redis.call('ZCARD', FAILED)))
  end
  return earliest_trim_at
end

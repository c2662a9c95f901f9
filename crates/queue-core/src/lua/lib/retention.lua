-- retention: tells how long finished messages are kept: until they are older than `age`, or until more than `count` messages are
-- kept and they are older than `min_age`.
-- KEYS meta completed failed outcomes erased
-- USES meta clock

-- Returns age (ms), count and minimum age (ms) from the JSON of the setting.
local parsed_limits = {}
local function limits_of(kind)
  local limits = parsed_limits[kind]
  if not limits then
    local form = '^{"age":(%d+),"count":(%d+),"min_age":(%d+)}$'
    local age, kept, min_age = string.match(meta['retention.' .. kind], form)
    if not age then
      -- Drover did not write this value; the default applies.
      age, kept, min_age = string.match(kind == 'failed' and RETENTION_FAILED or RETENTION_COMPLETED, form)
    end
    limits = { age = tonumber(age), count = tonumber(kept), min_age = tonumber(min_age) }
    parsed_limits[kind] = limits
  end
  return limits
end

local function finished_at(id)
  local outcome = id and redis.call('HGET', OUTCOMES, id)
  return outcome and tonumber(string.match(outcome, '^.(%d+)'))
end

-- `trimmed` of `meta` counts all messages that ever left the head of `completed`. So a position that is counted from the first
-- message ever completed stays valid.
local function pop_completed(k)
  redis.call('HINCRBY', META, 'trimmed', k)
  return redis.call('LPOP', COMPLETED, k)
end

-- Returns the instant (ms) at which the next finished message may be forgotten. It is not later than now if one may be forgotten
-- now.
local function next_trim()
  local function trimmed_at(limits, at, count)
    if count <= limits.count then return math.min(at, now) + limits.age end
    return at > now and now or at + limits.min_age
  end
  local instant = math.huge
  local length = redis.call('LLEN', COMPLETED)
  if length > 0 then
    local at = finished_at(redis.call('LINDEX', COMPLETED, 0))
    -- The first message was erased; only its id is left.
    if not at then return now end
    instant = trimmed_at(limits_of('completed'), at, length - redis.call('SCARD', ERASED))
  end
  local first = redis.call('ZRANGE', FAILED, '0', '0', 'WITHSCORES')
  if first[2] then
    instant = math.min(instant, trimmed_at(limits_of('failed'), tonumber(first[2]), redis.call('ZCARD', FAILED)))
  end
  return instant
end

-- trim: finished messages are forgotten by age and by count, whichever is passed first, but not before `min_age`;
-- a bounded number a call.

-- Everything that belongs to messages, but their place in a state.
local function forget(ids)
  redis.call('HDEL', MESSAGES, unpack(ids))
  redis.call('HDEL', OUTCOMES, unpack(ids))
  if redis.call('EXISTS', PROGRESS, SIGNALLED) > 0 then
    redis.call('HDEL', PROGRESS, unpack(ids))
    redis.call('HDEL', SIGNALLED, unpack(ids))
  end
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

-- A retention is "age,count,min_age" (ms, messages, ms).
local function limits_of(kind)
  local name, form = 'retention.' .. kind, '^(%d+),(%d+),(%d+)$'
  local age, kept, min_age = string.match(set[name], form)
  -- Not written by Drover: no reason to stop.
  if not age then age, kept, min_age = string.match(DEFAULTS[name], form) end
  return tonumber(age), tonumber(kept), tonumber(min_age)
end

local function keeps_none(kind)
  local _, kept = limits_of(kind)
  return kept == 0
end

local function finished_at(id)
  local outcome = id and redis.call('HGET', OUTCOMES, id)
  return outcome and tonumber(string.match(outcome, '^.(%d+)'))
end

-- `trimmed` counts what ever left the front of the list, so that places in it can be named for good.
local function pop_completed(k)
  redis.call('HINCRBY', META, 'trimmed', k)
  return redis.call('LPOP', COMPLETED, k)
end

-- `completed` is a list in the order of finishing, so if the k-th may go, all before it may. Mostly not even the first
-- may; else tries the largest k, then halves. While erased messages stand in the list, one by one.
local function trim_completed(limit)
  local age, kept, min_age = limits_of('completed')
  local length, erased = redis.call('LLEN', COMPLETED), redis.call('SCARD', ERASED)
  local k = math.min(limit, length)
  if erased > 0 then
    for _ = 1, k do
      local id = redis.call('LINDEX', COMPLETED, 0)
      local at = finished_at(id)
      if redis.call('SREM', ERASED, id) == 1 then
        erased = erased - 1
        pop_completed(1)
      elseif not at or at <= now - age or (at <= now - min_age and length - erased > kept) then
        pop_completed(1)
        forget({ id })
      else
        return
      end
      length = length - 1
    end
    return
  end
  local function may_go(nth)
    local at = finished_at(redis.call('LINDEX', COMPLETED, nth - 1)) or (nth == 1 and 0 or math.huge)
    return at <= now - age or (at <= now - min_age and nth <= length - kept)
  end
  if k == 0 or not may_go(1) then return end
  while k > 1 and not may_go(k) do
    k = math.floor(k / 2)
  end
  forget(pop_completed(k))
end

local function trim_failed(limit)
  local age, kept, min_age = limits_of('failed')
  local ids = redis.call('ZRANGE', FAILED, '-inf', now - age, 'BYSCORE', 'LIMIT', 0, limit)
  local excess = math.min(limit, redis.call('ZCARD', FAILED) - kept)
  if excess > #ids then
    ids = redis.call('ZRANGE', FAILED, '-inf', now - min_age, 'BYSCORE', 'LIMIT', 0, excess)
  end
  if #ids == 0 then return end
  redis.call('ZREM', FAILED, unpack(ids))
  forget(ids)
end

-- When the next finished message may go (ms).
local function next_trim()
  local instant = math.huge
  local length = redis.call('LLEN', COMPLETED)
  if length > 0 then
    local age, kept, min_age = limits_of('completed')
    local at = finished_at(redis.call('LINDEX', COMPLETED, 0)) or now
    instant = at + (length - redis.call('SCARD', ERASED) > kept and min_age or age)
  end
  local first = redis.call('ZRANGE', FAILED, '0', '0', 'WITHSCORES')
  if first[2] then
    local age, kept, min_age = limits_of('failed')
    instant = math.min(instant, first[2] + (redis.call('ZCARD', FAILED) > kept and min_age or age))
  end
  return instant
end

-- trim: finished messages are forgotten by age and by count, whichever is passed first, but not before `min_age`;
-- a bounded number a call.
-- KEYS meta messages options completed failed outcomes aliases taken progress erased signalled
-- USES layout clock instants settings fields

-- Returns the producer's own ids of messages.
local function own_ids_of(ids)
  local own_ids = {}
  for i, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
    local own_id = field(options, 'i')
    -- While purged messages are being forgotten, a newer message may have the same own id.
    if own_id and not (purged_to and redis.call('HGET', ALIASES, own_id) ~= ids[i]) then
      own_ids[#own_ids + 1] = own_id
    end
  end
  return own_ids
end

-- Keeps the own ids of messages that finish now taken for `id_window`, even if the messages are forgotten earlier.
local function keep_own_ids_taken(ids)
  local window = tonumber(redis.call('HGET', META, 'id_window') or DEFAULTS.id_window)
  if window == 0 then return end
  local until_when, taken = instant_text(now + window), {}
  for _, own_id in ipairs(own_ids_of(ids)) do
    taken[#taken + 1] = until_when
    taken[#taken + 1] = own_id
  end
  if #taken > 0 then redis.call('ZADD', TAKEN, unpack(taken)) end
end

-- Deletes everything that belongs to messages, except their entries in the keys of states. Their own ids stay 'taken' for
-- `id_window`, or become 'free'.
local function forget(ids, own_ids_become)
  local have_options = redis.call('HLEN', OPTIONS) > 0
  if have_options and redis.call('HLEN', ALIASES) > 0 then
    local own_ids = own_ids_of(ids)
    if #own_ids > 0 then
      redis.call('HDEL', ALIASES, unpack(own_ids))
      if own_ids_become == 'free' then redis.call('ZREM', TAKEN, unpack(own_ids)) end
    end
  end
  redis.call('HDEL', MESSAGES, unpack(ids))
  redis.call('HDEL', OUTCOMES, unpack(ids))
  if redis.call('EXISTS', PROGRESS, SIGNALLED) > 0 then
    redis.call('HDEL', PROGRESS, unpack(ids))
    redis.call('HDEL', SIGNALLED, unpack(ids))
  end
  if have_options then redis.call('HDEL', OPTIONS, unpack(ids)) end
end

-- Reads the retention setting from its JSON: age (ms), count and minimum age (ms).
local function limits_of(kind)
  local name, form = 'retention.' .. kind, '^{"age":(%d+),"count":(%d+),"min_age":(%d+)}$'
  local age, kept, min_age = string.match(set[name], form)
  -- Drover did not write this value; the default applies.
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

-- Whether a message that finished at this instant may be forgotten; `are_too_many`: more than `count` messages are kept. An
-- instant later than now was written before Redis's clock stepped back, so its message is an old one.
local function may_be_trimmed(at, age, min_age, are_too_many)
  return at <= now - age or (are_too_many and (at <= now - min_age or at > now))
end

-- `trimmed` counts all messages that ever left the front of the list, so that a position counted from the first message ever
-- stays valid.
local function pop_completed(k)
  redis.call('HINCRBY', META, 'trimmed', k)
  return redis.call('LPOP', COMPLETED, k)
end

-- `completed` is a list in the order of finishing: if the k-th message may be forgotten, all before it may. Usually not even
-- the first may; otherwise the largest k is tried first, then halved. While the list has erased messages, they are checked
-- one by one. Returns whether more messages may be forgotten together with a message that finished after them.
local function trim_completed(limit)
  local age, kept, min_age = limits_of('completed')
  local length, erased = redis.call('LLEN', COMPLETED), redis.call('SCARD', ERASED)
  local k = math.min(limit, length)
  if k == 0 then return end
  local function nth_may_be_trimmed(nth)
    local at = finished_at(redis.call('LINDEX', COMPLETED, nth - 1))
    if not at then return nth == 1 end
    return may_be_trimmed(at, age, min_age, nth <= length - erased - kept)
  end
  -- A message whose instant is later than now is forgotten with the first later message that may be.
  local trimmed_with_later = 0
  local first = finished_at(redis.call('LINDEX', COMPLETED, 0))
  if first and first > now then
    trimmed_with_later = length
    while trimmed_with_later > 0 and not nth_may_be_trimmed(trimmed_with_later) do
      trimmed_with_later = math.floor(trimmed_with_later / 2)
    end
  end
  if erased > 0 then
    -- Each outcome is read with its result, so few are checked per call.
    for i = 1, math.min(k, MAX_RESULTS) do
      local id = redis.call('LINDEX', COMPLETED, 0)
      local at = finished_at(id)
      if redis.call('SREM', ERASED, id) == 1 then
        erased = erased - 1
        pop_completed(1)
      elseif not at or i <= trimmed_with_later or may_be_trimmed(at, age, min_age, length - erased > kept) then
        pop_completed(1)
        forget({ id }, 'taken')
      else
        return
      end
      length = length - 1
    end
    return
  end
  if trimmed_with_later == 0 and not nth_may_be_trimmed(1) then return end
  if trimmed_with_later > 0 then
    k = math.min(k, trimmed_with_later)
  else
    while k > 1 and not nth_may_be_trimmed(k) do
      k = math.floor(k / 2)
    end
  end
  forget(pop_completed(k), 'taken')
  return trimmed_with_later > k
end

local function trim_failed(limit)
  local age, kept, min_age = limits_of('failed')
  local ids = redis.call('ZRANGE', FAILED, '-inf', now - age, 'BYSCORE', 'LIMIT', 0, limit)
  local excess = math.min(limit, redis.call('ZCARD', FAILED) - kept)
  if excess > #ids then
    ids = redis.call('ZRANGE', FAILED, '-inf', now - min_age, 'BYSCORE', 'LIMIT', 0, excess)
    if excess > #ids then
      for _, id in ipairs(redis.call('ZRANGE', FAILED, '(' .. now_text, '+inf', 'BYSCORE', 'LIMIT', 0, excess - #ids)) do
        ids[#ids + 1] = id
      end
    end
  end
  if #ids == 0 then return end
  redis.call('ZREM', FAILED, unpack(ids))
  forget(ids, 'taken')
end

-- Returns the instant (ms) at which the next finished message may be forgotten.
local function next_trim()
  local function trimmed_at(kind, at, count)
    local age, kept, min_age = limits_of(kind)
    if count <= kept then return math.min(at, now) + age end
    return at > now and now or at + min_age
  end
  local instant = math.huge
  local length = redis.call('LLEN', COMPLETED)
  if length > 0 then
    local at = finished_at(redis.call('LINDEX', COMPLETED, 0)) or now
    instant = trimmed_at('completed', at, length - redis.call('SCARD', ERASED))
  end
  local first = redis.call('ZRANGE', FAILED, '0', '0', 'WITHSCORES')
  if first[2] then
    instant = math.min(instant, trimmed_at('failed', tonumber(first[2]), redis.call('ZCARD', FAILED)))
  end
  return instant
end

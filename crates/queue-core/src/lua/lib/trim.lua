-- trim: finished messages are forgotten by age and by count, whichever is passed first, but not before `min_age`;
-- a bounded number a call.
-- KEYS meta messages options completed failed outcomes aliases taken progress erased signalled
-- USES layout clock instants settings fields

-- The producer's own ids of messages.
local function own_ids_of(ids)
  local own_ids = {}
  for i, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
    local own_id = field(options, 'i')
    -- While purged messages are being forgotten, another message may have the id by now.
    if own_id and not (purged_to and redis.call('HGET', ALIASES, own_id) ~= ids[i]) then
      own_ids[#own_ids + 1] = own_id
    end
  end
  return own_ids
end

-- Messages finish now: their own ids stay taken for `id_window`, also when the messages are no longer kept.
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

-- Everything that belongs to messages, but their place in a state. Their own ids stay 'taken' as long as is said above, or
-- become 'free'.
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

-- The setting is JSON: times in ms, and how many messages.
local function limits_of(kind)
  local name, form = 'retention.' .. kind, '^{"age":(%d+),"count":(%d+),"min_age":(%d+)}$'
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

-- Whether a message that finished then may go, where too many are kept or not. When Redis's clock has stepped back, an instant
-- may lie ahead: it is older than all that came since, so it goes when there are too many.
local function may_go(at, age, min_age, are_too_many)
  return at <= now - age or (are_too_many and (at <= now - min_age or at > now))
end

-- `trimmed` counts what ever left the front of the list, so that places in it can be named for good.
local function pop_completed(k)
  redis.call('HINCRBY', META, 'trimmed', k)
  return redis.call('LPOP', COMPLETED, k)
end

-- `completed` is a list in the order of finishing, so if the k-th may go, all before it may. Mostly not even the first
-- may; else tries the largest k, then halves. While erased messages stand in the list, one by one. Answers whether more go
-- with one that finished after them.
local function trim_completed(limit)
  local age, kept, min_age = limits_of('completed')
  local length, erased = redis.call('LLEN', COMPLETED), redis.call('SCARD', ERASED)
  local k = math.min(limit, length)
  if k == 0 then return end
  local function nth_may_go(nth)
    local at = finished_at(redis.call('LINDEX', COMPLETED, nth - 1))
    if not at then return nth == 1 end
    return may_go(at, age, min_age, nth <= length - erased - kept)
  end
  -- One that lies ahead goes with what finished after it: so many go with one behind them.
  local go_with_another = 0
  local first = finished_at(redis.call('LINDEX', COMPLETED, 0))
  if first and first > now then
    go_with_another = length
    while go_with_another > 0 and not nth_may_go(go_with_another) do
      go_with_another = math.floor(go_with_another / 2)
    end
  end
  if erased > 0 then
    -- Each is read, with its result.
    for i = 1, math.min(k, MOST_RESULTS) do
      local id = redis.call('LINDEX', COMPLETED, 0)
      local at = finished_at(id)
      if redis.call('SREM', ERASED, id) == 1 then
        erased = erased - 1
        pop_completed(1)
      elseif not at or i <= go_with_another or may_go(at, age, min_age, length - erased > kept) then
        pop_completed(1)
        forget({ id }, 'taken')
      else
        return
      end
      length = length - 1
    end
    return
  end
  if go_with_another == 0 and not nth_may_go(1) then return end
  if go_with_another > 0 then
    k = math.min(k, go_with_another)
  else
    while k > 1 and not nth_may_go(k) do
      k = math.floor(k / 2)
    end
  end
  forget(pop_completed(k), 'taken')
  return go_with_another > k
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

-- When the next finished message may go (ms).
local function next_trim()
  local function goes_at(kind, at, count)
    local age, kept, min_age = limits_of(kind)
    if count <= kept then return math.min(at, now) + age end
    return at > now and now or at + min_age
  end
  local instant = math.huge
  local length = redis.call('LLEN', COMPLETED)
  if length > 0 then
    local at = finished_at(redis.call('LINDEX', COMPLETED, 0)) or now
    instant = goes_at('completed', at, length - redis.call('SCARD', ERASED))
  end
  local first = redis.call('ZRANGE', FAILED, '0', '0', 'WITHSCORES')
  if first[2] then
    instant = math.min(instant, goes_at('failed', tonumber(first[2]), redis.call('ZCARD', FAILED)))
  end
  return instant
end

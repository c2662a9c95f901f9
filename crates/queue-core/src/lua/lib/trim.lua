-- trim: forgets finished messages beyond retention, a bounded number per call.
-- KEYS completed failed erased
-- USES clock instants retention forget

-- Returns whether a message that finished at `finish_instant` may be forgotten. `are_too_many` says whether more than `count`
-- messages are kept. A message whose `finish_instant` is later than now finished before Redis's clock stepped back, so the message
-- counts as old.
local function may_be_trimmed(finish_instant, limits, are_too_many)
  return finish_instant <= now - limits.age or (are_too_many and (finish_instant <= now - limits.min_age or finish_instant > now))
end

-- Forgets completed messages beyond retention. The list `completed` is in the order of finishing: if the k-th message may be forgotten,
-- all messages before it may be forgotten too. Usually retention keeps even the first message of `completed`, so `trim_completed` first
-- checks only this message. If the first message may be forgotten, `trim_completed` tries to forget as many messages as `limit`
-- permits, then half as many, and so on. While the list `completed` has ids of erased messages, messages are checked one by one. After
-- a step back of Redis's clock, `trim_completed` returns true if it must be called again to forget more messages.
local function trim_completed(limit)
  local limits = limits_of('completed')
  local completed_count, erased_count = redis.call('LLEN', COMPLETED), redis.call('SCARD', ERASED)
  local trim_count = math.min(limit, completed_count)
  if trim_count == 0 then return end
  local function nth_may_be_trimmed(nth)
    local finish_instant = finished_at(redis.call('LINDEX', COMPLETED, nth - 1))
    if not finish_instant then return nth == 1 end
    return may_be_trimmed(finish_instant, limits, nth <= completed_count - erased_count - limits.count)
  end
  -- A message whose instant is later than now is forgotten when a message behind it in the list may be forgotten.
  local trimmed_with_later = 0
  local first_finished_at = finished_at(redis.call('LINDEX', COMPLETED, 0))
  if first_finished_at and first_finished_at > now then
    trimmed_with_later = completed_count
    while trimmed_with_later > 0 and not nth_may_be_trimmed(trimmed_with_later) do
      trimmed_with_later = math.floor(trimmed_with_later / 2)
    end
  end
  if erased_count > 0 then
    -- The check whether a completed message may be forgotten reads its outcome, which contains the result (up to 64 KiB), so one call
    -- checks few messages.
    for i = 1, math.min(trim_count, MAX_RESULTS) do
      local id = redis.call('LINDEX', COMPLETED, 0)
      local finish_instant = finished_at(id)
      if redis.call('SREM', ERASED, id) == 1 then
        erased_count = erased_count - 1
        pop_completed(1)
      elseif not finish_instant or i <= trimmed_with_later
        or may_be_trimmed(finish_instant, limits, completed_count - erased_count > limits.count) then
        pop_completed(1)
        forget({ id }, 'taken')
      else
        return
      end
      completed_count = completed_count - 1
    end
    return
  end
  if trimmed_with_later == 0 and not nth_may_be_trimmed(1) then return end
  if trimmed_with_later > 0 then
    trim_count = math.min(trim_count, trimmed_with_later)
  else
    while trim_count > 1 and not nth_may_be_trimmed(trim_count) do
      trim_count = math.floor(trim_count / 2)
    end
  end
  forget(pop_completed(trim_count), 'taken')
  return trimmed_with_later > trim_count
end

local function trim_failed(limit)
  local limits = limits_of('failed')
  local ids = redis.call('ZRANGE', FAILED, '-inf', now - limits.age, 'BYSCORE', 'LIMIT', 0, limit)
  local excess_count = math.min(limit, redis.call('ZCARD', FAILED) - limits.count)
  if excess_count > #ids then
    ids = redis.call('ZRANGE', FAILED, '-inf', now - limits.min_age, 'BYSCORE', 'LIMIT', 0, excess_count)
    if excess_count > #ids then
      for _, id in ipairs(redis.call('ZRANGE', FAILED, '(' .. now_text, '+inf', 'BYSCORE', 'LIMIT', 0, excess_count - #ids)) do
        ids[#ids + 1] = id
      end
    end
  end
  if #ids == 0 then return end
  redis.call('ZREM', FAILED, unpack(ids))
  forget(ids, 'taken')
end

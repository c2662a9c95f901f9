-- owner: in an exclusive queue one consumer has access at a time (`true`: to one message, `{"parallel":n}`: to n). It keeps it while it has live leases, and for a
-- while after each time it asked; another takes over when neither holds, or when it gives up.
-- KEYS meta leased blocking wake
-- USES clock settings waiting_list wake clock_step

-- How many messages this consumer may lease now, and, if it is not its turn, when the owner's time is over (ms).
local function turn_of(consumer, keep_for)
  local active = redis.call('ZCARD', LEASED)
  local owner_until = tonumber(set.owner_until) or 0
  if set.owner ~= consumer and (active > 0 or owner_until > now) then
    return 0, owner_until > now and owner_until or nil
  end
  set.owner = consumer
  redis.call('HSET', META, 'owner', consumer, 'owner_until', now + keep_for)
  note_clock()
  -- A message that backs off holds the queue.
  if redis.call('EXISTS', BLOCKING) == 1 then return 0 end
  return math.max(0, (tonumber(string.match(set.exclusive, '%d+')) or 1) - active)
end

-- A lease has ended: the owner may have the next message, or any consumer if the owner does not keep the queue.
local function wake_owner()
  if not anything_is_ready() then return end
  local owner_until = tonumber(redis.call('HGET', META, 'owner_until')) or 0
  if owner_until > now or redis.call('EXISTS', LEASED) == 1 then
    redis.call('PUBLISH', WAKE, '0\t' .. (redis.call('HGET', META, 'owner') or ''))
  else
    wake_now()
  end
end

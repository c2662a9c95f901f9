-- owner: gives one consumer, the owner, access to an exclusive queue (setting `true`: to one message at a time, `{"parallel":n}`: to
-- n). A consumer stays the owner of an exclusive queue while it has live leases, and for the owner timeout after each of its lease
-- calls. When the owner has no live leases, and its owner timeout is over or it has ended its ownership, another consumer may become
-- the owner.
-- KEYS meta leased blocking wake
-- USES meta clock waiting_list wake record_clock

-- Returns how many messages this consumer may lease now; and if another consumer is the owner, the end (ms) of its owner
-- timeout, or nil if only its leases keep it the owner.
local function leases_for_owner(consumer, owner_timeout)
  local active_count = redis.call('ZCARD', LEASED)
  local owner_until = tonumber(meta.owner_until) or 0
  if meta.owner ~= consumer and (active_count > 0 or owner_until > now) then
    return 0, owner_until > now and owner_until or nil
  end
  meta.owner = consumer
  redis.call('HSET', META, 'owner', consumer, 'owner_until', now + owner_timeout)
  record_clock()
  -- A message in back-off blocks an exclusive queue.
  if redis.call('EXISTS', BLOCKING) == 1 then return 0 end
  return math.max(0, (tonumber(string.match(meta.exclusive, '%d+')) or 1) - active_count)
end

-- If a message is ready, wakes the owner, or all consumers if the queue has no owner any more. Scripts call `wake_owner` after a
-- lease has ended.
local function wake_owner()
  if not anything_is_ready() then return end
  local owner_until = tonumber(redis.call('HGET', META, 'owner_until')) or 0
  if owner_until > now or redis.call('EXISTS', LEASED) == 1 then
    redis.call('PUBLISH', WAKE, '0\t' .. (redis.call('HGET', META, 'owner') or ''))
  else
    wake_now()
  end
end

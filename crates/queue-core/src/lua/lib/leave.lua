-- leave: a message is taken away from where it stands.
-- KEYS delayed failed held expiring blocking erased
-- USES held waiting_list wake

-- Takes a message out of its state, whichever but active. In the lists it stays until it comes up, and is skipped.
local function leave(id, state, options)
  redis.call('ZREM', EXPIRING, id)
  if state == 'waiting' then
    leave_waiting({ id })
  elseif state == 'delayed' then
    redis.call('ZREM', DELAYED, id)
    -- A message that backs off blocks an exclusive queue: now it no longer does.
    if redis.call('SREM', BLOCKING, id) == 1 then wake_now() end
  elseif state == 'held' then
    redis.call('ZREM', HELD, held_member(id, options))
  elseif state == 'failed' then
    redis.call('ZREM', FAILED, id)
  elseif state == 'completed' then
    redis.call('SADD', ERASED, id)
  end
end

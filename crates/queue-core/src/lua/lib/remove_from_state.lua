-- remove_from_state: removes a message from the key of its state, from its group, and its expiry.
-- KEYS delayed failed held expiring blocking erased
-- USES held groups waiting_list wake delivered

-- The parameter `state` may be any state except active. In the lists `waiting` and `completed` the id of the message stays, marked
-- as removed, until the id reaches the head of the list. The caller of `remove_from_state` must call `groups.write` later.
local function remove_from_state(id, state, options)
  redis.call('ZREM', EXPIRING, id)
  if state == 'waiting' then
    remove_from_waiting_list({ id }, { options })
    groups.tally({ options }, -1)
  elseif state == 'delayed' then
    redis.call('ZREM', DELAYED, id)
    leave_groups({ id }, { options })
    -- A message that backs off blocks an exclusive queue, so its removal unblocks the queue.
    if redis.call('SREM', BLOCKING, id) == 1 then wake_now() end
  elseif state == 'held' then
    redis.call('ZREM', HELD, held_member(id, options))
    leave_groups({ id }, { options })
  elseif state == 'failed' then
    redis.call('ZREM', FAILED, id)
  elseif state == 'completed' then
    redis.call('SADD', ERASED, id)
  end
end

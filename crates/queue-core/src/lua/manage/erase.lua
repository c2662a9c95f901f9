#!lua flags=allow-oom
-- erase: forgets a message and all that belongs to it.
-- KEYS      options runs taken
-- USES      events waiters state leave trim
-- ARGV      id, Drover's or the producer's own
-- Returns   the state in which it was found, or false: unknown. It is gone, unless it is active: then it is as it was
-- Complexity O(log N)
local id = drovers_id(ARGV[1])
local options = redis.call('HGET', OPTIONS, id)
local state = state_of(id, options)
if state and state ~= 'active' then
  leave(id, state, options)
  record_events({ id }, function() return 'erased' end)
  redis.call('HDEL', RUNS, id)
  notify_waiters({ id })
  forget({ id }, 'free')
end
-- An own id whose message is no longer kept is free from now on.
if not state and redis.call('ZREM', TAKEN, ARGV[1]) == 1 then return 'completed' end
return state

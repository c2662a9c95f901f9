#!lua flags=allow-oom
-- erase: forgets a message and everything that belongs to it.
-- KEYS      options runs taken
-- USES      events waiters groups wake state remove_from_state forget
-- ARGV      id, Drover's or the producer's own
-- Returns   the state in which the message was found, or false: unknown. An active message is unchanged, any other message is forgotten
-- Complexity O(log N)
local id = drovers_id(ARGV[1])
local options = redis.call('HGET', OPTIONS, id)
local state = state_of(id, options)
if state and state ~= 'active' then
  remove_from_state(id, state, options)
  record_events({ id }, function() return 'erased' end)
  redis.call('HDEL', RUNS, id)
  notify_waiters({ id })
  forget({ id }, 'free')
  if groups.write() then wake_now() end
end
-- If the message is no longer kept, but the id that its producer chose (its own id) is still taken, that id becomes free for another
-- message. The reply for a message that is no longer kept is `completed`, although the message may have failed, because the caller only
-- needs to know that the message had finished.
if not state and redis.call('ZREM', TAKEN, ARGV[1]) == 1 then return 'completed' end
return state

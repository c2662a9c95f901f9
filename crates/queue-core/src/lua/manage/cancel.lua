#!lua flags=allow-oom
-- cancel: cancels a message. A held, delayed or waiting message fails at once. The consumer of an active message is notified to
-- stop; any settle except a completion then fails the message as cancelled.
-- KEYS      options runs failed cancelling wake
-- USES      clock run totals groups wake watch state remove_from_state retention finish
-- ARGV      id, Drover's or the producer's own
-- Returns   the state in which the message was found, or false: unknown. A held, delayed or waiting message has failed now; an
--           active one is to be cancelled; a finished one is unchanged
-- Complexity O(log N)
local id = drovers_id(ARGV[1])
local options = redis.call('HGET', OPTIONS, id)
local state = state_of(id, options)
if state == 'active' then
  redis.call('SADD', CANCELLING, id)
  redis.call('PUBLISH', WAKE, 'cancel\t' .. id)
elseif state == 'held' or state == 'delayed' or state == 'waiting' then
  remove_from_state(id, state, options)
  count('cancelled')
  finish(id, 'l', redis.call('HGET', RUNS, id) or NEVER_RUN, CANCELLED)
  write_finished()
  if groups.write() then wake_now() end
  write_totals()
  local first_failed = redis.call('ZRANGE', FAILED, 0, 0, 'WITHSCORES')
  if first_failed[2] then wake_at(math.max(now + 100, next_trim())) end
end
return state

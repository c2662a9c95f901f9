#!lua flags=allow-oom
-- promote: makes a delayed message ready at once.
-- KEYS      options delayed runs blocking
-- USES      clock run events groups waiting_list wake ready state requeue_at_head
-- ARGV      id, Drover's or the producer's own
-- Returns   the state in which the message was found, or false: unknown. Only a delayed message is changed
-- Complexity O(log N)
local id = drovers_id(ARGV[1])
local options = redis.call('HGET', OPTIONS, id)
local state = state_of(id, options)
if state == 'delayed' then
  redis.call('ZREM', DELAYED, id)
  local run_text = redis.call('HGET', RUNS, id)
  local was_delivered_before = false
  if run_text then
    local run = parse_run(run_text)
    was_delivered_before = run.deliveries > 0
    run.ready = now
    redis.call('HSET', RUNS, id, format_run(run))
  else
    redis.call('HSET', OPTIONS, id, with_ready_now(options))
  end
  record_events({ id }, function() return 'promoted' end)
  -- A message that backed off in an exclusive queue blocked the queue, so it goes to the head of the waiting list.
  local was_blocking = redis.call('SREM', BLOCKING, id) == 1
  local needs_wake_up
  if was_blocking then needs_wake_up = requeue_at_head({ id }) else needs_wake_up = push_tail({ id }, was_delivered_before) end
  needs_wake_up = groups.write() or needs_wake_up
  if needs_wake_up or was_blocking then wake_now() end
end
return state

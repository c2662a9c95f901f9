#!lua flags=allow-oom
-- undo_leases: ends leases of one lease call whose handlers never started: the reply of the call was lost, or the consumer can't
-- start the handlers soon. The script puts the messages back at the head of the waiting list, in their order, as if they had never
-- been leased; a message that is to be cancelled fails.
-- KEYS      options leased runs cancelling
-- USES      meta run totals groups wake finish requeue owner
-- ARGV      token of the call, then ids
-- Returns   how many leases were ended: those of the ids whose current lease has this token
-- Complexity O(ids · log N)
local token = ARGV[1]
local runs = redis.call('HMGET', RUNS, unpack(ARGV, 2))
local options = redis.call('HMGET', OPTIONS, unpack(ARGV, 2))
local is_cancelling = redis.call('SMISMEMBER', CANCELLING, unpack(ARGV, 2))
local ids_of_call = {}
for i = 2, #ARGV do
  local id, run = ARGV[i], parse_run(runs[i - 1])
  if run.token == token then
    run.settled = 'bw' .. run.token
    run.token, run.started, run.consumer, run.deliveries = '', '', '', run.deliveries - 1
    set_ready_at(run, run.ready)
    ids_of_call[#ids_of_call + 1] = id
    if is_cancelling[i - 1] == 1 then
      count('cancelled')
      finish(id, 'l', format_run(run), CANCELLED)
      groups.leave(options[i - 1])
    else
      may_expire_again(id, options[i - 1], run)
      requeue(id, format_run(run), 0, 'head')
    end
  end
end
if #ids_of_call > 0 then
  redis.call('ZREM', LEASED, unpack(ids_of_call))
  redis.call('SREM', CANCELLING, unpack(ids_of_call))
  local needs_wake_up = write_requeued()
  needs_wake_up = groups.write() or needs_wake_up
  write_finished()
  write_totals()
  if needs_wake_up then wake_now() end
  if meta.exclusive then wake_owner() end
end
return #ids_of_call

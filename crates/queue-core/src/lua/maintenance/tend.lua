#!lua flags=allow-oom
-- tend: does for a queue what must happen by itself as time passes: recovers lapsed leases, fails what has expired,
-- promotes what is due, forgets what is no longer kept, goes on with signals that stopped half-way. A bounded part a call.
-- USES      settings totals wake finish requeue maintain
-- ARGV      a random number in [0, 1) for back-offs
-- Returns   µs until there is next something to do; -1: never, 0: at once; -2: there is no such queue
-- Complexity O(log N) and a bounded number of messages
if not layout then return -2 end
read_settings('max_attempts', 'backoff', 'max_lapses', 'exclusive', 'retention.completed', 'retention.failed', 'clock',
  'visibility_timeout', 'owner_until', 'mending')
local was_empty = maintain(tonumber(ARGV[1]))
was_empty = write_requeued() or was_empty
write_finished()
write_totals()
local clean_at = clean()
if was_empty then wake_now() end
return pause_until(math.min(next_instant(), clean_at))

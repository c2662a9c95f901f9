#!lua flags=allow-oom
-- tend: does for a queue what must happen by itself as time passes: recovers lapsed leases, fails what has expired,
-- promotes what is due, forgets what is no longer kept, goes on with signals that stopped half-way. A bounded part a call.
-- KEYS      meta seq messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited held expiring blocking cancelling progress erased signals sticky sticky_until signalled dedup dedup_until events wake
-- USES      clock settings fields events totals wake run line held state trim waiters finish backoff timeout front comeback attempt recover expire due signal sweep tend
-- ARGV      a random number in [0, 1) for back-offs
-- Returns   µs until there is next something to do; -1: never, 0: at once
-- Complexity O(log N) and a bounded number of messages
read_settings('max_attempts', 'backoff', 'max_lapses', 'timeout', 'exclusive', 'retention.completed', 'retention.failed')
local was_empty = tend(tonumber(ARGV[1]))
was_empty = write_comebacks() or was_empty
write_finished()
write_totals()
local clean_at = clean()
if was_empty then look_now() end
return pause_until(math.min(next_instant(), clean_at))

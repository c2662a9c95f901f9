#!lua flags=allow-oom
-- maintain: maintains a queue, a bounded part per call: recovers lapsed leases, fails expired messages, promotes due messages,
-- forgets messages that are no longer kept, and continues interrupted signals and purges.
-- USES      meta totals wake finish next_change maintain
-- ARGV      a random number in [0, 1) for back-offs
-- Returns   µs until maintenance is next needed; -1: not before the queue changes; 0: at once; -2: the queue does not exist
-- Complexity O(log N) and a bounded number of messages
if not meta.layout then return -2 end
local needs_wake_up = maintain(tonumber(ARGV[1]))
write_finished()
write_totals()
local clean_at = clean()
if needs_wake_up then wake_now() end
return pause_until(math.min(next_instant(), clean_at))

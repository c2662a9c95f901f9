#!lua flags=allow-oom
-- delete: the queue is gone, whatever it holds. Redis frees the memory on a thread of its own, so nobody waits for it.
-- KEYS      meta seq messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited held expiring blocking cancelling progress erased signals sticky sticky_until signalled dedup dedup_until limiter events wake
-- ARGV      none
-- Returns   1 if there was a queue, else 0
-- Complexity O(1)
local was_there = redis.call('EXISTS', META)
redis.call('UNLINK', unpack(KEYS, 1, #KEYS - 1))
-- Consumers declare it anew, and learn that there is nothing; who listens learns it too.
redis.call('PUBLISH', WAKE, 0)
if listened_until then redis.call('PUBLISH', EVENTS, 0) end
return was_there

#!lua flags=allow-oom
-- delete: removes the queue with all its messages. Redis frees the memory on its own thread, so no call waits for it.
-- KEYS      *
-- ARGV      the epoch of the queue that is meant
-- Returns   1: it is gone; 0: there is none, or another one by now
-- Complexity O(1)
if redis.call('HGET', META, 'epoch') ~= ARGV[1] then return 0 end
local is_awaited = redis.call('EXISTS', AWAITED) == 1
redis.call('UNLINK', unpack(KEYS))
-- Consumers and listeners look, and learn that there is nothing; waits for messages of the queue end.
redis.call('PUBLISH', WAKE, 0)
if listened_until then redis.call('PUBLISH', EVENTS, 0) end
if is_awaited then redis.call('PUBLISH', 'drover:finished', string.match(META, '{(.-)}') .. '\t*') end
return 1

#!lua flags=allow-oom
-- delete: removes the queue with all its messages. Redis frees the memory of the keys in a background thread, so that no other
-- call has to wait.
-- KEYS      *
-- USES      meta
-- ARGV      the epoch of the queue to delete
-- Returns   1: deleted; 0: no queue with this epoch exists
-- Complexity O(1)
if meta.epoch ~= ARGV[1] then return 0 end
local is_awaited = redis.call('EXISTS', AWAITED) == 1
redis.call('UNLINK', unpack(KEYS))
-- After the notifications about the deletion, consumers and listeners call again and learn that the queue does not exist, and
-- clients stop waiting for messages of the queue.
redis.call('PUBLISH', WAKE, 0)
if meta.listened_until then redis.call('PUBLISH', EVENTS, 0) end
if is_awaited then redis.call('PUBLISH', 'drover:finished', string.match(META, '{(.-)}') .. '\t*') end
return 1

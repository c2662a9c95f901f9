#!lua flags=allow-oom
-- end_ownership: ends a consumer's ownership of an exclusive queue, so that another consumer can become the owner as soon as no
-- message is leased.
-- KEYS      meta
-- USES      meta wake
-- ARGV      consumer
-- Returns   1 if the consumer was the owner, else 0
-- Complexity O(1)
if meta.owner ~= ARGV[1] then return 0 end
redis.call('HDEL', META, 'owner', 'owner_until')
wake_now()
return 1

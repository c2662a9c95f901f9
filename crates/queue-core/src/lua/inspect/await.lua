#!lua flags=allow-oom
-- await: records that a client waits for a message to finish, so that a notification is sent when it finishes.
-- KEYS      messages outcomes awaited
-- USES      clock
-- ARGV      id, duration of the wait (ms)
-- Returns   1 if the wait was recorded, 0 if the message has finished or is unknown
-- Complexity O(log N); also forgets up to a hundred waits that have ended
local id, wait_duration = ARGV[1], tonumber(ARGV[2])
local ended_waits = redis.call('ZRANGE', AWAITED, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
if #ended_waits > 0 then redis.call('ZREM', AWAITED, unpack(ended_waits)) end
if redis.call('HEXISTS', MESSAGES, id) == 0 or redis.call('HEXISTS', OUTCOMES, id) == 1 then
  return 0
end
redis.call('ZADD', AWAITED, 'GT', now + wait_duration, id)
return 1

#!lua flags=allow-oom
-- await: records that a client waits for a message to finish, so that a notification is sent when it finishes.
-- KEYS      messages outcomes awaited
-- USES      clock
-- ARGV      id, for how long (ms)
-- Returns   1 if it is awaited now, 0 if it has finished or is unknown
-- Complexity O(log N); also forgets, a hundred a call, whose wait is over
local id, wait = ARGV[1], tonumber(ARGV[2])
local over = redis.call('ZRANGE', AWAITED, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
if #over > 0 then redis.call('ZREM', AWAITED, unpack(over)) end
if redis.call('HEXISTS', MESSAGES, id) == 0 or redis.call('HEXISTS', OUTCOMES, id) == 1 then
  return 0
end
redis.call('ZADD', AWAITED, 'GT', now + wait, id)
return 1

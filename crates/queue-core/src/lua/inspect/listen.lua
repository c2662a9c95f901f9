#!lua flags=allow-oom
-- listen: a client listens to the events of the queue for this time; until then, events are logged. A log that nobody
-- listened to for a while has a gap, so it begins anew.
-- KEYS      meta events
-- USES      clock events
-- ARGV      for how long (ms)
-- Returns   the id of the newest event: the place of its entry, and which of the entry it is, 0 if the log has just begun;
--           or false: no such queue
-- Complexity O(1)
if redis.call('HEXISTS', META, 'epoch') == 0 then return false end
if not is_listened then redis.call('DEL', EVENTS) end
if redis.call('EXISTS', EVENTS) == 0 then redis.call('XADD', EVENTS, next_place(0), 'listening', '') end
local kept_until = math.max(tonumber(listened_until) or 0, now + tonumber(ARGV[1]))
redis.call('HSET', META, 'listened_until', kept_until)
redis.call('PEXPIRE', EVENTS, kept_until - now)
local newest = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)[1]
return newest[1] .. '-' .. (newest[2][1] == 'listening' and 0 or #newest[2] / 2)

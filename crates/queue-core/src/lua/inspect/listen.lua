#!lua flags=allow-oom
-- listen: makes the scripts of the queue log its events for a duration, because a client listens. If the duration for which the
-- previous call of `listen` requested a log is over, the log has a gap, so an empty log replaces the old log.
-- KEYS      meta events
-- USES      meta clock events
-- ARGV      duration (ms)
-- Returns   the id of the newest event: the id of its entry and its number in the entry (0 if the log is new); or false: the queue
--           does not exist
-- Complexity O(1)
if not meta.epoch then return false end
if not is_listened then redis.call('DEL', EVENTS) end
if redis.call('EXISTS', EVENTS) == 0 then redis.call('XADD', EVENTS, next_entry_id(0), 'listening', '') end
local listened_until = math.max(tonumber(meta.listened_until) or 0, now + tonumber(ARGV[1]))
redis.call('HSET', META, 'listened_until', listened_until)
redis.call('PEXPIRE', EVENTS, listened_until - now)
local newest_entry = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)[1]
return newest_entry[1] .. '-' .. (newest_entry[2][1] == 'listening' and 0 or #newest_entry[2] / 2)

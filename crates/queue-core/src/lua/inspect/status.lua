#!lua flags=no-writes
-- status: returns the counts by state, the settings and the totals of a queue.
-- KEYS      meta waiting prioritized delayed leased completed failed removed held erased
-- USES      clock ready
-- Returns   false if the queue does not exist; or the numbers of held, delayed, waiting, active, completed, failed; how long (ms)
--           the first waiting message at priority 0, or the first one at another priority, has been ready, whichever is longer
--           (-1: none); then the fields of `meta` and their values
-- Complexity O(1)
local stored = redis.call('HGETALL', META)
if #stored == 0 then return false end

-- Returns the first id of the list that is not marked as removed, among the first `MAX_MESSAGES`.
local function first_in_list()
  local ids = redis.call('LRANGE', WAITING, 0, redis.call('EXISTS', REMOVED) == 1 and MAX_MESSAGES - 1 or 0)
  if #ids == 0 then return nil end
  for i, is_removed in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    if is_removed == 0 then return ids[i] end
  end
end
local function since(id)
  return id and ready_since(id) or math.huge
end
local oldest = math.min(since(first_in_list()), since(redis.call('ZRANGE', PRIORITIZED, 0, 0)[1]))

local waiting = redis.call('LLEN', WAITING) - redis.call('SCARD', REMOVED) + redis.call('ZCARD', PRIORITIZED)
return {
  redis.call('ZCARD', HELD), redis.call('ZCARD', DELAYED), waiting, redis.call('ZCARD', LEASED),
  redis.call('LLEN', COMPLETED) - redis.call('SCARD', ERASED), redis.call('ZCARD', FAILED),
  (waiting == 0 or oldest == math.huge) and -1 or math.max(0, now - oldest), stored,
}

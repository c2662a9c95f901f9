#!lua flags=no-writes
-- status: returns the counts by state, the settings and the totals of a queue.
-- KEYS      meta waiting prioritized delayed leased completed failed removed held erased groups schedules
-- USES      clock ready
-- Returns   false if the queue does not exist; or the numbers of held, delayed, waiting, active, completed, failed; how long (ms)
--           the first waiting message at priority 0, the first one at another priority, or the one with the lowest id of those that
--           are first in their group (of about 1,000 groups) has been ready, whichever is longer (-1: none); then the fields of
--           `meta` and their values, and the number of schedules
-- Complexity O(1), with groups O(1,000)
local stored_meta = redis.call('HGETALL', META)
if #stored_meta == 0 then return false end

-- Returns the first id of the list `waiting` that is not marked as removed, among its first `MAX_MESSAGES` ids.
local function first_waiting_id()
  local ids = redis.call('LRANGE', WAITING, 0, redis.call('EXISTS', REMOVED) == 1 and MAX_MESSAGES - 1 or 0)
  if #ids == 0 then return nil end
  for i, is_removed in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    if is_removed == 0 then return ids[i] end
  end
end
local function ready_instant(id)
  return id and ready_since(id) or math.huge
end
-- The number of ready messages with a group.
local ready_with_group_count = 0
for i = 1, #stored_meta, 2 do
  if stored_meta[i] == 'ready' then ready_with_group_count = tonumber(stored_meta[i + 1]) end
end
local function lowest_id_of_groups()
  local scanned_groups, lowest_id = redis.call('HSCAN', GROUPS, '0', 'COUNT', MAX_MESSAGES)[2], nil
  for i = 2, #scanned_groups, 2 do
    local stored_group = scanned_groups[i]
    local id = #stored_group == 14 and stored_group or string.sub(stored_group, 9, 22)
    -- The stored text of a group without a ready message begins with a slash.
    if string.byte(stored_group) ~= 47 and (not lowest_id or id < lowest_id) then lowest_id = id end
  end
  return lowest_id
end
local oldest_instant = math.min(
  ready_instant(first_waiting_id()), ready_instant(redis.call('ZRANGE', PRIORITIZED, 0, 0)[1]),
  ready_instant(ready_with_group_count > 0 and lowest_id_of_groups()))

local waiting_count = redis.call('LLEN', WAITING) - redis.call('SCARD', REMOVED) + redis.call('ZCARD', PRIORITIZED)
  + ready_with_group_count
return {
  redis.call('ZCARD', HELD), redis.call('ZCARD', DELAYED), waiting_count, redis.call('ZCARD', LEASED),
  redis.call('LLEN', COMPLETED) - redis.call('SCARD', ERASED), redis.call('ZCARD', FAILED),
  (waiting_count == 0 or oldest_instant == math.huge) and -1 or math.max(0, now - oldest_instant), stored_meta,
  redis.call('HLEN', SCHEDULES),
}

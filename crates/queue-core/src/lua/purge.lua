#!lua flags=allow-oom
-- purge: forgets some messages of one state, those first that are next in it.
-- KEYS      meta seq messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited held expiring blocking cancelling progress erased signals sticky sticky_until signalled dedup dedup_until events wake
-- USES      clock settings fields events wake line trim waiters
-- ARGV      state (any but active), at most so many; '' or for failed and completed the end of what was there when the
--           purge began, as answered before
-- Returns   how many were forgotten; that end; how many places were gone through: none at the end
-- Complexity O(messages · log N)
local state, limit, up_to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = {}
-- How many places of a list were gone through, those of messages that were gone already too.
local passed = 0

local function from_set(key, first, last, ...)
  local found = redis.call('ZRANGE', key, first, last, ...)
  if #found > 0 then redis.call('ZREM', key, unpack(found)) end
  return found
end

-- From the front of a list, without what was gone already and only marked as such.
local function from_list(key, mark, most, pop)
  local found = most > 0 and redis.call('LRANGE', key, 0, math.min(most, 1000) - 1) or {}
  if #found == 0 then return found end
  local standing, dropped = {}, {}
  for i, gone in ipairs(redis.call('SMISMEMBER', mark, unpack(found))) do
    local place = gone == 1 and dropped or standing
    if place == standing and #standing == limit then break end
    place[#place + 1] = found[i]
    passed = i
  end
  pop(passed)
  if #dropped > 0 then redis.call('SREM', mark, unpack(dropped)) end
  return standing
end

if state == 'held' then
  for _, member in ipairs(from_set(HELD, 0, limit - 1)) do
    ids[#ids + 1] = string.match(member, '\t(%d+)\t?%d*$')
  end
elseif state == 'delayed' then
  ids = from_set(DELAYED, 0, limit - 1)
  if #ids > 0 and redis.call('SREM', BLOCKING, unpack(ids)) > 0 then look_now() end
elseif state == 'waiting' then
  ids = from_set(PRIORITIZED, 0, limit - 1)
  if #ids == 0 then
    ids = from_list(WAITING, REMOVED, 1000, function(n) redis.call('LTRIM', WAITING, n, -1) end)
  end
elseif state == 'failed' then
  up_to = up_to or now
  ids = from_set(FAILED, '-inf', up_to, 'BYSCORE', 'LIMIT', 0, limit)
elseif state == 'completed' then
  local trimmed = tonumber(redis.call('HGET', META, 'trimmed')) or 0
  up_to = up_to or trimmed + redis.call('LLEN', COMPLETED)
  ids = from_list(COMPLETED, ERASED, up_to - trimmed, pop_completed)
end
if #ids > 0 then
  redis.call('ZREM', EXPIRING, unpack(ids))
  tell(ids, function() return 'erased' end)
  tell_waiters(ids)
  redis.call('HDEL', RUNS, unpack(ids))
  forget(ids)
end
return { #ids, up_to or 0, math.max(#ids, passed) }

#!lua flags=allow-oom
-- purge: forgets some messages of one state, those first that are next in it.
-- KEYS      meta seq messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited held expiring blocking cancelling progress erased signals sticky sticky_until signalled dedup dedup_until wake
-- USES      clock settings fields wake line trim
-- ARGV      state (any but active), at most so many; '' or for failed and completed the end of what was there when the
--           purge began, as answered before
-- Returns   how many were forgotten, and that end
-- Complexity O(messages · log N)
local state, limit, up_to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = {}

local function from_set(key, first, last, ...)
  local found = redis.call('ZRANGE', key, first, last, ...)
  if #found > 0 then redis.call('ZREM', key, unpack(found)) end
  return found
end

-- What was taken from a list, without what was gone already and only marked as such.
local function without(gone, found)
  if #found == 0 or redis.call('EXISTS', gone) == 0 then return found end
  local standing = {}
  for i, is_gone in ipairs(redis.call('SMISMEMBER', gone, unpack(found))) do
    if is_gone == 0 then standing[#standing + 1] = found[i] end
  end
  redis.call('SREM', gone, unpack(found))
  return standing
end

local function from_line()
  local found = from_set(PRIORITIZED, 0, limit - 1)
  if #found > 0 then return found end
  found = redis.call('LRANGE', WAITING, 0, limit - 1)
  if #found == 0 then return found end
  redis.call('LTRIM', WAITING, #found, -1)
  local standing = without(REMOVED, found)
  -- Only what was gone already: there may be more behind it.
  if #standing == 0 then return from_line() end
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
  ids = from_line()
elseif state == 'failed' then
  up_to = up_to or now
  ids = from_set(FAILED, '-inf', up_to, 'BYSCORE', 'LIMIT', 0, limit)
elseif state == 'completed' then
  local trimmed = tonumber(redis.call('HGET', META, 'trimmed')) or 0
  up_to = up_to or trimmed + redis.call('LLEN', COMPLETED)
  ids = {}
  local k = math.min(limit, up_to - trimmed, redis.call('LLEN', COMPLETED))
  while k > 0 and #ids == 0 do
    ids = without(ERASED, pop_completed(k))
    trimmed = trimmed + k
    k = math.min(limit, up_to - trimmed, redis.call('LLEN', COMPLETED))
  end
end
if #ids > 0 then
  redis.call('ZREM', EXPIRING, unpack(ids))
  redis.call('ZREM', AWAITED, unpack(ids))
  redis.call('HDEL', RUNS, unpack(ids))
  forget(ids)
end
return { #ids, up_to or 0 }

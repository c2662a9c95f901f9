-- configure: writes new values of settings ('' for the default) and resets the state that depends on these settings. Returns whether
-- any value changed. The error GROUPED says that a queue with unfinished messages that have a group can't become exclusive.
-- KEYS meta limiter blocking
-- USES meta groups
local function would_make_groups_exclusive(fields)
  if groups.unfinished == 0 or meta.exclusive then return false end
  for i = 1, #fields, 2 do
    if fields[i] == 'exclusive' and fields[i + 1] ~= '' then return true end
  end
  return false
end
local GROUPED = 'GROUPED the queue has unfinished messages with a group'

local function configure(fields)
  local changed = {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    local before = redis.call('HGET', META, name) or ''
    if before ~= value then
      changed[name] = before
      if value == '' then redis.call('HDEL', META, name) else redis.call('HSET', META, name, value) end
    end
  end
  if not next(changed) then return false end
  -- If only the parallel limit changes, the owner stays the owner, and messages in back-off still block the exclusive queue.
  local is_exclusive = redis.call('HEXISTS', META, 'exclusive') == 1
  if changed.exclusive == '' or (changed.exclusive and not is_exclusive) then
    redis.call('HDEL', META, 'owner', 'owner_until')
    redis.call('DEL', BLOCKING)
  end
  if changed.rate_limit and redis.call('HEXISTS', META, 'rate_limit') == 0 then
    redis.call('DEL', LIMITER)
    redis.call('HDEL', META, 'limiter_used')
  end
  if changed['groups.concurrency'] and groups.unfinished > 0 then
    meta['groups.concurrency'] = redis.call('HGET', META, 'groups.concurrency') or GROUPS_CONCURRENCY
    groups.regroup('0')
  end
  return true
end

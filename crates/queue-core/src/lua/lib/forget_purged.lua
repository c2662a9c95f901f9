-- forget_purged: forgets, in bounded steps, the messages that a purge has taken out of the waiting list.
-- KEYS meta runs expiring purged purged_prioritized purged_removed returned
-- USES meta events waiters forget
local function forget_messages(ids)
  redis.call('ZREM', EXPIRING, unpack(ids))
  record_events(ids, function() return 'erased' end)
  notify_waiters(ids)
  redis.call('HDEL', RUNS, unpack(ids))
  forget(ids, 'free')
end

local function forget_purged()
  local ids = redis.call('ZRANGE', PURGED_PRIORITIZED, 0, MAX_MESSAGES - 1)
  if #ids > 0 then
    redis.call('ZREM', PURGED_PRIORITIZED, unpack(ids))
  else
    local found = redis.call('LPOP', PURGED, MAX_MESSAGES) or {}
    -- An id in `purged_removed` is a stale entry of the list: its message was removed from the list before the purge.
    local is_stale = #found > 0 and redis.call('SMISMEMBER', PURGED_REMOVED, unpack(found)) or {}
    local stale = {}
    for i, id in ipairs(found) do
      local target = is_stale[i] == 1 and stale or ids
      target[#target + 1] = id
    end
    if #stale > 0 then redis.call('SREM', PURGED_REMOVED, unpack(stale)) end
  end
  if #ids > 0 then forget_messages(ids) end
  if redis.call('EXISTS', PURGED, PURGED_PRIORITIZED) == 0 then
    redis.call('DEL', RETURNED)
    redis.call('HDEL', META, 'purged_to')
    meta.purged_to = nil
  end
end

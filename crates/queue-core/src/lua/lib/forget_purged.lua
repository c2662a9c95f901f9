-- forget_purged: a step of forgetting what a purge took out of the waiting list.
-- KEYS meta runs expiring purged purged_prioritized purged_removed returned
-- USES layout events waiters trim
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
    -- A message that had left the waiting list before only stood there.
    local is_gone = #found > 0 and redis.call('SMISMEMBER', PURGED_REMOVED, unpack(found)) or {}
    local gone = {}
    for i, id in ipairs(found) do
      local those = is_gone[i] == 1 and gone or ids
      those[#those + 1] = id
    end
    if #gone > 0 then redis.call('SREM', PURGED_REMOVED, unpack(gone)) end
  end
  if #ids > 0 then forget_messages(ids) end
  if redis.call('EXISTS', PURGED, PURGED_PRIORITIZED) == 0 then
    redis.call('DEL', RETURNED)
    redis.call('HDEL', META, 'purged_to')
    purged_to = nil
  end
end

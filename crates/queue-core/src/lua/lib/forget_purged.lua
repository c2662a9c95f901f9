-- forget_purged: forgets, in bounded steps, the messages that a purge has taken out of the waiting list.
-- KEYS meta runs expiring purged purged_prioritized purged_removed groups purged_groups purged_group_rest returned
-- USES meta events waiters forget
local function forget_messages(ids)
  redis.call('ZREM', EXPIRING, unpack(ids))
  record_events(ids, function() return 'erased' end)
  notify_waiters(ids)
  redis.call('HDEL', RUNS, unpack(ids))
  forget(ids, 'free')
end

-- Removes purged messages with a group from the keys of the purge, and returns their ids: messages in `purged_groups`, or, when that
-- key is empty, messages in `purged_group_rest`. The stored text of a message's position in its group ends with the message's id. For
-- each group, the number of messages that count towards its maximum number of active messages moves from `purged_groups` to `groups`.
local function take_purged_of_groups()
  local ids, names, place_entries = {}, {}, {}
  local stored_texts = redis.call('HRANDFIELD', PURGED_GROUPS, MAX_MESSAGES, 'WITHVALUES')
  for i = 1, #stored_texts, 2 do
    local name, stored_text = stored_texts[i], stored_texts[i + 1]
    names[#names + 1] = name
    if string.byte(stored_text) ~= 47 then ids[#ids + 1] = #stored_text == 14 and stored_text or string.sub(stored_text, 9, 22) end
    local places_text = string.match(stored_text, '/%d+')
    if places_text then
      place_entries[#place_entries + 1] = name
      place_entries[#place_entries + 1] = places_text
    end
  end
  if #place_entries > 0 then redis.call('HSET', GROUPS, unpack(place_entries)) end
  if #names > 0 then
    redis.call('HDEL', PURGED_GROUPS, unpack(names))
  else
    local rest_members = redis.call('ZPOPMIN', PURGED_GROUP_REST, MAX_MESSAGES)
    for i = 1, #rest_members, 2 do ids[#ids + 1] = string.sub(rest_members[i], -14) end
  end
  table.sort(ids)
  return ids
end

local function forget_purged()
  local ids = redis.call('ZRANGE', PURGED_PRIORITIZED, 0, MAX_MESSAGES - 1)
  if #ids > 0 then
    redis.call('ZREM', PURGED_PRIORITIZED, unpack(ids))
  elseif redis.call('EXISTS', PURGED) == 0 then
    ids = take_purged_of_groups()
  else
    local found_ids = redis.call('LPOP', PURGED, MAX_MESSAGES)
    -- An id in `purged_removed` is a stale entry of the list `purged`: its message was removed from the list before the purge.
    local is_stale = #found_ids > 0 and redis.call('SMISMEMBER', PURGED_REMOVED, unpack(found_ids)) or {}
    local stale_ids = {}
    for i, id in ipairs(found_ids) do
      local target_ids = is_stale[i] == 1 and stale_ids or ids
      target_ids[#target_ids + 1] = id
    end
    if #stale_ids > 0 then redis.call('SREM', PURGED_REMOVED, unpack(stale_ids)) end
  end
  if #ids > 0 then forget_messages(ids) end
  if redis.call('EXISTS', PURGED, PURGED_PRIORITIZED, PURGED_GROUPS, PURGED_GROUP_REST) == 0 then
    redis.call('DEL', RETURNED)
    redis.call('HDEL', META, 'purged_to')
    meta.purged_to = nil
  end
end

-- waiting_list: adds messages at the head or the tail of the waiting list, each at its priority, and removes messages. A message
-- that was removed but whose id is still in the list gets its old position again, so that no id is ever in the list twice. The
-- functions that add messages to the waiting list return whether a wake-up is necessary. A wake-up is necessary if messages became
-- ready at priority 0 and no message was ready at priority 0 before, or if messages became ready at other priorities and no message
-- was ready at any other priority than 0 before. A message with a group goes to its group and not to the list; for messages with a
-- group, `groups.write` returns whether a wake-up is necessary.
-- KEYS options waiting prioritized removed returned turns single_turns
-- USES meta fields groups

-- Removes duplicates after `ids` were pushed to the waiting list. An id that was already in the waiting list, marked as removed, is
-- no longer marked, and stays only at its old position.
local function restore_removed_ids(ids, push_command)
  local restored_ids, other_ids = {}, {}
  for i, is_in_list in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    local target_ids = is_in_list == 1 and restored_ids or other_ids
    target_ids[#target_ids + 1] = ids[i]
  end
  if #restored_ids == 0 then return end
  redis.call(push_command == 'RPUSH' and 'RPOP' or 'LPOP', WAITING, #ids)
  redis.call('SREM', REMOVED, unpack(restored_ids))
  if #other_ids > 0 then redis.call(push_command, WAITING, unpack(other_ids)) end
end

-- Adds messages to the waiting list. `are_returned` is true if all messages were leased before, or a table whose keys are the ids of
-- those messages that were leased before. `known_options` has the options of each message if the caller knows the options.
local function push_ready(ids, push_command, are_returned, known_options)
  if meta.purged_to then
    for _, id in ipairs(ids) do
      if id <= meta.purged_to then redis.call('SADD', RETURNED, id) end
    end
  end
  local plain_ids, ranked_ids = ids, {}
  if known_options or redis.call('HLEN', OPTIONS) > 0 then
    plain_ids = {}
    local all_options = known_options or redis.call('HMGET', OPTIONS, unpack(ids))
    if groups.unfinished > 0 then groups.load_of(all_options) end
    for i, options in ipairs(all_options) do
      local priority, group = groups.priority_of(options), groups.unfinished > 0 and groups.key_of(options)
      if group then
        groups.add(group, ids[i], priority, are_returned == true or are_returned and are_returned[ids[i]])
      elseif priority == 0 then
        plain_ids[#plain_ids + 1] = ids[i]
      else
        ranked_ids[#ranked_ids + 1] = priority
        ranked_ids[#ranked_ids + 1] = ids[i]
      end
    end
  end
  local needs_wake_up = false
  if #plain_ids > 0 then
    local list_length = redis.call(push_command, WAITING, unpack(plain_ids))
    needs_wake_up = list_length == #plain_ids
    if not needs_wake_up then
      -- Removed messages whose ids are still in the waiting list do not count as ready.
      local removed_count = redis.call('SCARD', REMOVED)
      needs_wake_up = list_length - removed_count == #plain_ids
      if removed_count > 0 then restore_removed_ids(plain_ids, push_command) end
    end
  end
  if #ranked_ids > 0 then
    redis.call('ZADD', PRIORITIZED, unpack(ranked_ids))
    needs_wake_up = needs_wake_up or redis.call('ZCARD', PRIORITIZED) == #ranked_ids / 2
  end
  return needs_wake_up
end

local function push_tail(ids, are_returned, known_options)
  return push_ready(ids, 'RPUSH', are_returned, known_options)
end

-- Adds messages that were leased before at the head of the waiting list. The first of `ids` becomes the first id of the waiting
-- list.
local function push_head(ids)
  local reversed_ids = {}
  for i = #ids, 1, -1 do
    reversed_ids[#reversed_ids + 1] = ids[i]
  end
  return push_ready(reversed_ids, 'LPUSH', true)
end

-- Removes messages from the waiting list. At priority 0 the ids stay in the list, marked as removed, and are skipped when they
-- reach the head. `all_options` has the options of each message.
local function remove_from_waiting_list(ids, all_options)
  for i, id in ipairs(ids) do
    local group = groups.unfinished > 0 and groups.key_of(all_options[i])
    if group then
      groups.remove(group, id, groups.priority_of(all_options[i]))
    elseif redis.call('ZREM', PRIORITIZED, id) == 0 then
      redis.call('SADD', REMOVED, id)
    end
  end
end

local function anything_is_ready()
  if meta.grouped then return redis.call('EXISTS', TURNS) == 1 or groups.drop_stale_turns() or redis.call('EXISTS', SINGLE_TURNS) == 1 end
  return groups.is_plain_ready()
end

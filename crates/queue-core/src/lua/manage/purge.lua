#!lua flags=allow-oom
-- purge: does one step of forgetting the messages that are in one state when the purge begins. Messages that are posted after the
-- purge has begun stay.
-- KEYS      meta seq options waiting prioritized delayed completed failed removed held blocking erased purged purged_prioritized purged_removed groups group_rest turns single_turns purged_groups purged_group_rest
-- USES      meta clock instants cursors groups wake watch retention forget_purged failed delivered
-- ARGV      epoch; state (any except active); the cut-off and the cursor that the previous step returned ('' at first)
-- Returns   how many messages were forgotten, or are hidden and will be forgotten; the cut-off, up to which messages are purged;
--           the cursor for the next step ('': the purge is finished). Or the error EPOCH
-- Complexity O(1,000 · log N)
if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local state, cut_off, cursor = ARGV[2], ARGV[3], ARGV[4]
local forgotten_count = 0

local function forget_from(key, ids, members)
  if #ids == 0 then return end
  redis.call('ZREM', key, unpack(members or ids))
  forget_messages(ids)
  forgotten_count = forgotten_count + #ids
end

-- Removes delayed or held messages from their groups.
local function free_places(ids)
  if groups.unfinished == 0 or #ids == 0 then return end
  leave_groups(ids, redis.call('HMGET', OPTIONS, unpack(ids)))
  if groups.write() then wake_now() end
end

-- In a queue with groups a step of the purge reads the runs of messages, so a step has fewer messages.
local step_size = groups.unfinished > 0 and MAX_RUNS or MAX_MESSAGES

-- A message that was posted after the purge began has an id above the cut-off.
local function is_before_cut(id)
  return id <= cut_off
end

local function purge_delayed()
  if cut_off == '' then cut_off = redis.call('GET', SEQ) or '0' end
  local found_members = cursors.members_from(DELAYED, cursor, step_size)
  local ids = {}
  for i = 1, #found_members, 2 do
    if is_before_cut(found_members[i]) then ids[#ids + 1] = found_members[i] end
  end
  if #ids > 0 and redis.call('SREM', BLOCKING, unpack(ids)) > 0 then wake_now() end
  free_places(ids)
  forget_from(DELAYED, ids)
  return #found_members == 2 * step_size and cursors.of(found_members[#found_members - 1], found_members[#found_members]) or ''
end

local function purge_held()
  if cut_off == '' then cut_off = redis.call('GET', SEQ) or '0' end
  local found_members = redis.call('ZRANGE', HELD, cursor == '' and '-' or '(' .. cursor, '+', 'BYLEX', 'LIMIT', 0, step_size)
  local ids, members = {}, {}
  for _, member in ipairs(found_members) do
    local id = string.match(member, '\t(%d+)\t?%d*$')
    if is_before_cut(id) then
      ids[#ids + 1] = id
      members[#members + 1] = member
    end
  end
  free_places(ids)
  forget_from(HELD, ids, members)
  return #found_members == step_size and found_members[#found_members] or ''
end

-- Purges failed messages. The cut-off of a purge of failed messages is the last id and the instant (ms) when the purge begins. If
-- 1,000 messages that were posted after the purge began fail in that same millisecond, the purge may end before it has forgotten
-- every message.
local function purge_failed()
  if cut_off == '' then cut_off = (redis.call('GET', SEQ) or '0') .. ':' .. now_text end
  local last_id, instant = string.match(cut_off, '^(%d+):(%d+)$')
  local ids = {}
  local failed_ids = failed_up_to(instant, MAX_MESSAGES)
  for _, id in ipairs(failed_ids) do
    if id <= last_id then ids[#ids + 1] = id end
  end
  forget_from(FAILED, ids)
  return #ids > 0 and #failed_ids == MAX_MESSAGES and 'more' or ''
end

-- Purges completed messages. The cut-off of a purge of completed messages is a position in the list `completed`, counted from the
-- first message that ever completed.
local function purge_completed()
  local trimmed_count = tonumber(redis.call('HGET', META, 'trimmed')) or 0
  if cut_off == '' then cut_off = string.format('%d', trimmed_count + redis.call('LLEN', COMPLETED)) end
  local pop_count = math.min(MAX_MESSAGES, tonumber(cut_off) - trimmed_count, redis.call('LLEN', COMPLETED))
  if pop_count <= 0 then return '' end
  local completed_ids, ids, erased_ids = pop_completed(pop_count), {}, {}
  for i, is_erased in ipairs(redis.call('SMISMEMBER', ERASED, unpack(completed_ids))) do
    local target_ids = is_erased == 1 and erased_ids or ids
    target_ids[#target_ids + 1] = completed_ids[i]
  end
  if #erased_ids > 0 then redis.call('SREM', ERASED, unpack(erased_ids)) end
  if #ids > 0 then forget_messages(ids) end
  forgotten_count = #ids
  return pop_count == MAX_MESSAGES and 'more' or ''
end

-- Purges waiting messages. The whole waiting list is renamed at once, so that messages that join the list later stay. The cut-off of a
-- purge of waiting messages is the last id when the waiting list is renamed.
local function purge_waiting()
  if cut_off == '' then
    if meta.purged_to then
      -- A purge of waiting messages begins only after an earlier purge of waiting messages has finished.
      forget_purged()
      return 'begin'
    end
    if redis.call('EXISTS', WAITING, PRIORITIZED) == 0 and groups.ready == 0 then return '' end
    forgotten_count = redis.call('LLEN', WAITING) - redis.call('SCARD', REMOVED) + redis.call('ZCARD', PRIORITIZED) + groups.ready
    cut_off = redis.call('GET', SEQ) or '0'
    meta.purged_to = cut_off
    redis.call('HSET', META, 'purged_to', cut_off)
    for from, to in pairs({
      [WAITING] = PURGED, [PRIORITIZED] = PURGED_PRIORITIZED, [REMOVED] = PURGED_REMOVED,
      [GROUPS] = PURGED_GROUPS, [GROUP_REST] = PURGED_GROUP_REST,
    }) do
      if redis.call('EXISTS', from) == 1 then redis.call('RENAME', from, to) end
    end
    if groups.unfinished > 0 then
      redis.call('DEL', TURNS, SINGLE_TURNS)
      groups.unfinished, groups.ready = groups.unfinished - groups.ready, 0
      groups.write()
    end
    -- If the process that began the purge does not continue it, maintenance does, after this wake-up.
    wake_at(now + 1000)
  end
  -- Another process may have finished this purge already, and may have begun a new purge.
  if meta.purged_to == cut_off then forget_purged() end
  return meta.purged_to == cut_off and 'more' or ''
end

local purge_steps = {
  held = purge_held, delayed = purge_delayed, waiting = purge_waiting, completed = purge_completed, failed = purge_failed,
}
local next_cursor = purge_steps[state]()
return { forgotten_count, cut_off, next_cursor }

-- maintain: does the maintenance that is due, a bounded part per call: recovers lapsed leases, fails expired messages and promotes
-- due messages. Returns whether a message that became ready makes a wake-up necessary; the fragment `waiting_list` defines when.
-- KEYS waiting removed signals single_turns
-- USES meta clock retention trim recover expire promote_due clock_step signal next_change sweep forget_purged groups requeue
local function maintain(random)
  shorten_deadlines_after_clock_step()
  recover(100, random)
  expire(100)
  local needs_wake_up = promote(1000)
  needs_wake_up = write_requeued() or needs_wake_up
  needs_wake_up = groups.write() or needs_wake_up
  if meta.regrouping then needs_wake_up = groups.regroup(meta.regrouping) or needs_wake_up end
  return needs_wake_up
end

-- Removes the ids of removed messages from the head of the waiting list. Calls of `lease` also remove the ids of removed messages,
-- but no consumer calls `lease` in a queue without consumers.
local function drop_removed_ids(limit)
  if redis.call('EXISTS', REMOVED) == 0 then return end
  local ids = redis.call('LRANGE', WAITING, 0, limit - 1)
  if #ids == 0 then return end
  local removed_count = 0
  for i, is_removed in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
    if is_removed == 0 then break end
    removed_count = i
  end
  if removed_count == 0 then return end
  redis.call('LTRIM', WAITING, removed_count, -1)
  redis.call('SREM', REMOVED, unpack(ids, 1, removed_count))
end

-- Cleans up: trims finished messages, removes expired entries, and continues unfinished signals and purges. No client waits for the
-- clean-up, so calls that lease messages leave the clean-up to later calls. Returns the instant (ms) of the next clean-up.
local function clean()
  local has_more_to_trim = trim_completed(1000)
  trim_failed(1000)
  sweep(1000)
  drop_removed_ids(1000)
  local has_stale_turns = meta.grouped and not groups.drop_stale_turns() and redis.call('EXISTS', SINGLE_TURNS) == 1
  local has_stale_tail = meta.grouped and groups.drop_stale_tail()
  -- Maintenance continues an unfinished signal, because the process that sent the signal may have stopped.
  local unfinished_key = redis.call('HRANDFIELD', SIGNALS)
  if unfinished_key and not release_held(unfinished_key, 1000) then return now end
  if meta.purged_to then
    forget_purged()
    if meta.purged_to then return now end
  end
  if has_more_to_trim or has_stale_turns or has_stale_tail or meta.regrouping then return now end
  if redis.call('EXISTS', REMOVED) == 1 then
    local first_id = redis.call('LINDEX', WAITING, 0)
    if first_id and redis.call('SISMEMBER', REMOVED, first_id) == 1 then return now end
  end
  return math.min(next_trim(), next_sweep())
end

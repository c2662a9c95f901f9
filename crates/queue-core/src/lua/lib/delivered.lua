-- delivered: finds delayed and held messages that were leased before. A delayed or held message that was leased before counts towards
-- the maximum number of active messages of its group.
-- KEYS runs
-- USES run groups

-- Returns a table whose keys are those of the given ids whose messages were leased before; nil in a queue without groups.
local function find_delivered(ids)
  if groups.unfinished == 0 then return nil end
  local are_delivered = {}
  for i, run in ipairs(redis.call('HMGET', RUNS, unpack(ids))) do
    if run and parse_run(run).deliveries > 0 then are_delivered[ids[i]] = true end
  end
  return are_delivered
end

-- Updates the groups of delayed or held messages that have finished or are forgotten. The caller of `leave_groups` must call
-- `groups.write` later.
local function leave_groups(ids, all_options)
  local are_delivered = find_delivered(ids) or {}
  for i, id in ipairs(ids) do
    if are_delivered[id] then groups.leave(all_options[i]) else groups.tally({ all_options[i] }, -1) end
  end
end

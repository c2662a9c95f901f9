-- configure: writes new values of settings ('' for the default) and resets the state that depends on these settings. Returns whether the
-- value of any setting changed.
-- KEYS meta limiter blocking schedules
-- USES meta groups schedule

-- Returns what prevents the queue from becoming exclusive, if these new settings would make it exclusive: 'messages' (unfinished ones
-- with a group), or 'schedule', a space and the name of a schedule whose message has a group; nil if nothing prevents it.
local function obstacle_to_exclusive(fields)
  local becomes_exclusive = false
  for i = 1, #fields, 2 do
    if fields[i] == 'exclusive' then becomes_exclusive = fields[i + 1] ~= '' end
  end
  if meta.exclusive or not becomes_exclusive then return nil end
  if groups.unfinished > 0 then return 'messages' end
  local schedule_states = redis.call('HGETALL', SCHEDULES)
  for i = 1, #schedule_states, 2 do
    local schedule = parse_schedule(schedule_states[i + 1])
    if schedule and has_flag(schedule, 'g') then return 'schedule ' .. schedule_states[i] end
  end
end

local function configure(fields)
  local old_values = {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    local old_value = redis.call('HGET', META, name) or ''
    if old_value ~= value then
      old_values[name] = old_value
      if value == '' then redis.call('HDEL', META, name) else redis.call('HSET', META, name, value) end
    end
  end
  if not next(old_values) then return false end
  -- While a queue stays exclusive, it keeps its owner, and messages in back-off still block it, even if a client changes how many
  -- messages the owner may lease at a time.
  local is_exclusive = redis.call('HEXISTS', META, 'exclusive') == 1
  if old_values.exclusive == '' or (old_values.exclusive and not is_exclusive) then
    redis.call('HDEL', META, 'owner', 'owner_until')
    redis.call('DEL', BLOCKING)
  end
  if old_values.rate_limit and redis.call('HEXISTS', META, 'rate_limit') == 0 then
    redis.call('DEL', LIMITER)
    redis.call('HDEL', META, 'limiter_used')
  end
  if old_values['groups.concurrency'] and groups.unfinished > 0 then
    meta['groups.concurrency'] = redis.call('HGET', META, 'groups.concurrency') or GROUPS_CONCURRENCY
    groups.regroup('0')
  end
  return true
end

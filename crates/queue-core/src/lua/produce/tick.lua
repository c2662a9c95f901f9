#!lua
-- tick: posts the messages of due ticks of schedules, and stores the next instant of each schedule. The caller of `tick` has
-- computed the instants of the ticks. The script carries out the caller's plan for a schedule only if the stored instant and the
-- revision are those that the caller knows, and the plan's ticks are due.
-- KEYS      meta schedules schedule_messages ticks options
-- USES      meta clock fields state schedule
-- CALLS     enqueue
-- ARGV      for each schedule: its name; the revision and the next instant that the caller knows; the instant of the newest tick of
--           the plan; the instant from which the plan is not valid ('' for none); the next instant ('' for none); the number of
--           ticks to post, and the instant of each, oldest first. All instants are in ms
-- Returns   now (µs); then for each schedule four: how many messages were posted, -1 if its plan was not carried out; how many ticks
--           were left out because of an unfinished message; its revision ('' if it does not exist); its next instant ('' for none)
-- Complexity O(schedules · log N + messages)
local plans, names, position, tick_total = {}, {}, 1, 0
while position <= #ARGV do
  local tick_count = tonumber(ARGV[position + 6])
  local plan = {
    revision = ARGV[position + 1], known = ARGV[position + 2], newest = tonumber(ARGV[position + 3]),
    valid_until = tonumber(ARGV[position + 4]) or math.huge, next_instant = ARGV[position + 5], instants = {}, posted = {},
    left_out = 0,
  }
  for i = 1, tick_count do plan.instants[i] = ARGV[position + 6 + i] end
  plans[#plans + 1] = plan
  names[#names + 1] = ARGV[position]
  position, tick_total = position + 7 + tick_count, tick_total + tick_count
end
if #plans > MAX_MESSAGES or tick_total > MAX_MESSAGES then
  return redis.error_reply('ERR at most ' .. MAX_MESSAGES .. ' schedules and messages a call')
end

local states = redis.call('HMGET', SCHEDULES, unpack(names))
local stored_instants = redis.call('ZMSCORE', TICKS, unpack(names))

local function is_unfinished(id)
  local state = id ~= '' and state_of(id, redis.call('HGET', OPTIONS, id))
  return state and state ~= 'completed' and state ~= 'failed'
end

-- `posts` has the messages to post, as arguments of `enqueue`.
local posts, post_count = { meta.epoch or '', '', '', 'rest+' }, 0
for i, plan in ipairs(plans) do
  local schedule = parse_schedule(states[i])
  plan.schedule = schedule
  plan.is_valid = schedule and schedule.revision == plan.revision and stored_instants[i] == plan.known
    and now >= plan.newest and now < plan.valid_until
  if plan.is_valid and #plan.instants > 0 then
    local options, record = string.match(redis.call('HGET', SCHEDULE_MESSAGES, names[i]) or '', '^([^\n]*)\n(.*)$')
    local skips_overlap = has_flag(schedule, 'o')
    local is_blocked = skips_overlap and is_unfinished(schedule.last_id)
    for nth, instant in ipairs(plan.instants) do
      if is_blocked then
        plan.left_out = plan.left_out + 1
      elseif record and schedule.runs + #plan.posted < schedule.max_runs then
        posts[#posts + 1] = options
        posts[#posts + 1] = '\tu' .. instant .. record
        post_count = post_count + 1
        plan.posted[#plan.posted + 1] = nth
        is_blocked = skips_overlap
      end
    end
  end
end

-- The script makes all its checks before its first write, so that a refused call changes nothing.
local ids = {}
if post_count > 0 then
  local reply = enqueue(posts)
  if reply.err then return reply end
  for i = 1, post_count do
    local message_reply = reply[2 + i]
    -- The reply of `enqueue` for a refused message begins with `!`.
    if string.byte(message_reply) ~= 33 then ids[i] = string.match(message_reply, '%d+') end
  end
end
local changed_schedules, next_instant_entries, ended_schedules, total_posted = {}, {}, {}, 0
local reply, post_index = { string.format('%d', now_us) }, 0
for i, plan in ipairs(plans) do
  local schedule, posted_count = plan.schedule, 0
  local next_instant = plan.is_valid and plan.next_instant or stored_instants[i] or ''
  for _, nth in ipairs(plan.posted) do
    post_index = post_index + 1
    if ids[post_index] then
      posted_count = posted_count + 1
      schedule.last_at, schedule.last_id = tonumber(plan.instants[nth]), ids[post_index]
    elseif next_instant == plan.next_instant then
      -- The first refused tick becomes the next tick of the schedule, so that a later call posts this tick and the ticks after it.
      next_instant = plan.instants[nth]
    end
  end
  if plan.is_valid then
    schedule.runs = schedule.runs + posted_count
    if schedule.runs >= schedule.max_runs then next_instant = '' end
    if posted_count > 0 then
      changed_schedules[#changed_schedules + 1] = names[i]
      changed_schedules[#changed_schedules + 1] = format_schedule(schedule)
    end
    if next_instant == '' then
      ended_schedules[#ended_schedules + 1] = names[i]
    elseif next_instant ~= stored_instants[i] then
      next_instant_entries[#next_instant_entries + 1] = next_instant
      next_instant_entries[#next_instant_entries + 1] = names[i]
    end
    total_posted = total_posted + posted_count
  end
  reply[#reply + 1] = plan.is_valid and posted_count or -1
  reply[#reply + 1] = plan.left_out
  reply[#reply + 1] = schedule and schedule.revision or ''
  reply[#reply + 1] = next_instant
end
if #changed_schedules > 0 then redis.call('HSET', SCHEDULES, unpack(changed_schedules)) end
if #next_instant_entries > 0 then redis.call('ZADD', TICKS, unpack(next_instant_entries)) end
if #ended_schedules > 0 then redis.call('ZREM', TICKS, unpack(ended_schedules)) end
if total_posted > 0 then redis.call('HINCRBY', META, 'total:scheduled', total_posted) end
return reply

#!lua
-- put_schedule: creates a schedule or replaces its definition, unless another client has changed it since the caller read it.
-- KEYS      schedules schedule_messages ticks
-- USES      meta schedule
-- ARGV      epoch; name; the revision that the caller knows ('' for none); the new revision (the known one: only the flags change);
--           the maximum number of messages ('' for no limit); flags without `p`; the bytes of the message; the rule; options and
--           record of the message with a line feed between them; the next instant (ms)
-- Returns   1: stored; 0: the schedule has changed since the caller read it. Or the errors EPOCH; SCHEDULES: the queue has its
--           maximum number of schedules; EXCLUSIVE: the message has a group, and the queue is exclusive
-- Complexity O(log N)
if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local name, known_revision, revision, max_runs_text, flags = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local message_bytes, rule, message, next_instant = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local stored_schedule = parse_schedule(redis.call('HGET', SCHEDULES, name))
if (stored_schedule and stored_schedule.revision or '') ~= known_revision then return 0 end
if not stored_schedule and redis.call('HLEN', SCHEDULES) >= MAX_SCHEDULES then
  return redis.error_reply('SCHEDULES ' .. MAX_SCHEDULES)
end
if meta.exclusive and string.find(flags, 'g', 1, true) then
  return redis.error_reply('EXCLUSIVE the message has a group, and the queue is exclusive')
end
-- A tick that was posted is never posted again, so the next instant must be after the newest posted tick.
local is_new_definition = revision ~= known_revision
if is_new_definition and stored_schedule and stored_schedule.last_at and tonumber(next_instant) <= stored_schedule.last_at then return 0 end

local is_paused = stored_schedule and has_flag(stored_schedule, 'p')
redis.call('HSET', SCHEDULES, name, format_schedule({
  revision = revision, runs = is_new_definition and 0 or stored_schedule.runs, last_at = stored_schedule and stored_schedule.last_at,
  last_id = stored_schedule and stored_schedule.last_id or '', max_text = max_runs_text, flags = flags .. (is_paused and 'p' or ''),
  rest = message_bytes .. '\t' .. rule,
}))
if is_new_definition then
  redis.call('HSET', SCHEDULE_MESSAGES, name, message)
  if not is_paused then redis.call('ZADD', TICKS, next_instant, name) end
end
announce_schedule(name)
return 1

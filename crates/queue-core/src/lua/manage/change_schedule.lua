#!lua flags=allow-oom
-- change_schedule: pauses, resumes or deletes a schedule.
-- KEYS      schedules schedule_messages ticks
-- USES      schedule
-- ARGV      name; 'pause', 'resume' or 'delete'; 'resume': the revision that the caller knows, the next instant (ms; '' for none)
-- Returns   1: changed, or already in the wanted state; 0: the schedule has changed since the caller read it; false: there is no
--           schedule of this name
-- Complexity O(log N)
local name, action = ARGV[1], ARGV[2]
local state = redis.call('HGET', SCHEDULES, name)
if not state then return false end
-- A schedule whose stored state is damaged can be deleted, too.
if action == 'delete' then
  redis.call('HDEL', SCHEDULES, name)
  redis.call('HDEL', SCHEDULE_MESSAGES, name)
  redis.call('ZREM', TICKS, name)
  announce_schedule(name)
  return 1
end
local schedule = parse_schedule(state)
if not schedule then return false end
if (action == 'pause') == has_flag(schedule, 'p') then return 1 end
if action == 'pause' then
  schedule.flags = schedule.flags .. 'p'
  redis.call('ZREM', TICKS, name)
else
  local next_instant = tonumber(ARGV[4])
  -- A tick that was posted is never posted again, so the next instant must be after the newest posted tick.
  if schedule.revision ~= ARGV[3] or (next_instant and schedule.last_at and next_instant <= schedule.last_at) then return 0 end
  schedule.flags = string.gsub(schedule.flags, 'p', '')
  if next_instant then redis.call('ZADD', TICKS, ARGV[4], name) end
end
redis.call('HSET', SCHEDULES, name, format_schedule(schedule))
announce_schedule(name)
return 1

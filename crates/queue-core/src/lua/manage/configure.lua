#!lua flags=allow-oom
-- configure: changes settings of a queue, or `paused`, unless another caller has changed one of them since this caller read them.
-- KEYS      meta
-- USES      meta groups wake configure
-- ARGV      epoch, then for each setting three: its name, the value that the caller knows, the new value; '' for the default
-- Returns   1: changed, or 0: a known value was outdated, and nothing was changed. Or the errors EPOCH; GROUPED and what prevents
--           the queue from becoming exclusive
-- Complexity O(settings); O(schedules) if the queue becomes exclusive
if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local new_settings = {}
for i = 2, #ARGV, 3 do
  if (redis.call('HGET', META, ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
  new_settings[#new_settings + 1] = ARGV[i]
  new_settings[#new_settings + 1] = ARGV[i + 2]
end
local obstacle = obstacle_to_exclusive(new_settings)
if obstacle then return redis.error_reply('GROUPED ' .. obstacle) end
if configure(new_settings) then wake_now() end
return 1

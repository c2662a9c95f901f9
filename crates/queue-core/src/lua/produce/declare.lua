#!lua flags=allow-oom
-- declare: creates the queue if it does not exist and the caller permits it; writes the declared settings, without `exclusive`
-- while the queue can't become exclusive. Only the script `declare` creates queues.
-- KEYS      meta
-- USES      meta groups wake configure
-- ARGV      the epoch for a new queue ('' if none may be created), then settings and values alternately
-- Returns   the epoch, 1 if the queue was created, and what prevents the queue from becoming exclusive ('' for nothing); or false:
--           the queue does not exist. Or the error LAYOUT: the queue has the data layout of another version of Drover
-- Complexity O(settings); O(schedules) if the queue becomes exclusive
local epoch = meta.epoch
local is_new_queue = not epoch
local new_settings = { unpack(ARGV, 2) }
local obstacle = obstacle_to_exclusive(new_settings)
if obstacle then
  for i = #new_settings - 1, 1, -2 do
    if new_settings[i] == 'exclusive' then
      table.remove(new_settings, i + 1)
      table.remove(new_settings, i)
    end
  end
end
if is_new_queue then
  epoch = ARGV[1]
  if epoch == '' then return false end
  redis.call('HSET', META, 'epoch', epoch, 'layout', KNOWN_LAYOUT)
end
if configure(new_settings) and not is_new_queue then wake_now() end
return { epoch, is_new_queue and 1 or 0, obstacle or '' }

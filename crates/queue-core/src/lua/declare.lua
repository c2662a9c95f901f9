#!lua flags=allow-oom
-- declare: makes the queue known: gives it an epoch if it has none, and writes the settings that are declared for it.
-- KEYS      meta limiter blocking wake
-- USES      wake configure
-- ARGV      layout version, an epoch to use if there is none, then setting and value by turns
-- Returns   the epoch; or the error LAYOUT if a newer Drover has laid this queue out
-- Complexity O(settings)
local layout = tonumber(redis.call('HGET', META, 'layout')) or 0
if layout > tonumber(ARGV[1]) then
  return redis.error_reply('LAYOUT ' .. layout)
end
local is_new = redis.call('HSETNX', META, 'epoch', ARGV[2]) == 1
redis.call('HSET', META, 'layout', ARGV[1])
if configure({ unpack(ARGV, 3) }) and not is_new then look_now() end
return redis.call('HGET', META, 'epoch')

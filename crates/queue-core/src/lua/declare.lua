#!lua flags=allow-oom
-- declare: makes the queue known: gives it an epoch if it has none, and writes the settings that are declared for it.
-- KEYS      meta limiter blocking wake
-- USES      wake configure
-- ARGV      an epoch to use if there is none, then setting and value by turns
-- Returns   the epoch; or the error LAYOUT if a newer Drover has laid this queue out
-- Complexity O(settings)
local is_new = redis.call('HSETNX', META, 'epoch', ARGV[1]) == 1
redis.call('HSETNX', META, 'layout', KNOWN_LAYOUT)
if configure({ unpack(ARGV, 2) }) and not is_new then look_now() end
return redis.call('HGET', META, 'epoch')

#!lua flags=allow-oom
-- declare: begins the queue if there is none, unless it is to be begun by others; writes the settings that are declared for it.
-- Nothing else begins a queue.
-- KEYS      meta
-- USES      wake configure
-- ARGV      the epoch of the queue if it begins now ('' if it must not), then setting and value by turns
-- Returns   the epoch, and 1 if the queue has just begun; or false: there is none. Or the error LAYOUT: another Drover has laid
--           this queue out
-- Complexity O(settings)
local epoch = redis.call('HGET', META, 'epoch')
local begins = not epoch
if begins then
  epoch = ARGV[1]
  if epoch == '' then return false end
  redis.call('HSET', META, 'epoch', epoch, 'layout', KNOWN_LAYOUT)
end
if configure({ unpack(ARGV, 2) }) and not begins then wake_now() end
return { epoch, begins and 1 or 0 }

#!lua flags=allow-oom
-- declare: creates the queue if it does not exist and the caller permits it; writes the declared settings. No other script
-- creates a queue.
-- KEYS      meta
-- USES      meta groups wake configure
-- ARGV      the epoch for a new queue ('' if none may be created), then settings and values alternately
-- Returns   the epoch, and 1 if the queue was created; or false: the queue does not exist. Or the error LAYOUT: the queue has the
--           data layout of another version of Drover. Or the error GROUPED
-- Complexity O(settings)
local epoch = meta.epoch
local is_new = not epoch
local fields = { unpack(ARGV, 2) }
if would_make_groups_exclusive(fields) then return redis.error_reply(GROUPED) end
if is_new then
  epoch = ARGV[1]
  if epoch == '' then return false end
  redis.call('HSET', META, 'epoch', epoch, 'layout', KNOWN_LAYOUT)
end
if configure(fields) and not is_new then wake_now() end
return { epoch, is_new and 1 or 0 }

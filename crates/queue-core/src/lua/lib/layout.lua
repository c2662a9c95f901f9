-- layout: a process that knows another layout of a queue changes nothing there. Stands in every script that writes;
-- `KNOWN_LAYOUT` before it is the library's own. With the number comes what the fragments `events`, `wake` and `purged` go by,
-- so that it costs no call of its own.
-- KEYS meta
local layout, listened_until, events_end, watch, purged_to =
  unpack(redis.call('HMGET', META, 'layout', 'listened_until', 'events_end', 'watch', 'purged_to'))
watch = tonumber(watch) or 0
if layout and tonumber(layout) ~= KNOWN_LAYOUT then return redis.error_reply('LAYOUT ' .. layout) end

-- layout: stops a script if the queue has another data layout than `KNOWN_LAYOUT`, the library's own. Every script that writes
-- begins with it. The same HMGET reads the fields that the fragments `events`, `watch` and `purged` need, which saves a call.
-- KEYS meta
local layout, listened_until, events_end, watch, purged_to =
  unpack(redis.call('HMGET', META, 'layout', 'listened_until', 'events_end', 'watch', 'purged_to'))
watch = tonumber(watch) or 0
if layout and tonumber(layout) ~= KNOWN_LAYOUT then return redis.error_reply('LAYOUT ' .. layout) end

-- layout: a process that knows only older layouts of a queue changes nothing there. Stands in every script that writes;
-- `KNOWN_LAYOUT` before it is the library's own. With the number comes what the fragments `events` and `wake` go by, so
-- that it costs no call of its own.
local layout, listened_until, events_end, watch =
  unpack(redis.call('HMGET', META, 'layout', 'listened_until', 'events_end', 'watch'))
watch = tonumber(watch) or 0
if (tonumber(layout) or 0) > KNOWN_LAYOUT then return redis.error_reply('LAYOUT ' .. layout) end

-- layout: a process that knows only older layouts of a queue changes nothing there. Stands in every script that writes;
-- `KNOWN_LAYOUT` before it is the library's own.
local layout = tonumber(redis.call('HGET', META, 'layout')) or 0
if layout > KNOWN_LAYOUT then return redis.error_reply('LAYOUT ' .. layout) end

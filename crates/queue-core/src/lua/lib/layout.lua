-- layout: stops a script if the queue has another data layout than `KNOWN_LAYOUT`, the layout of queues without groups, or
-- `GROUPED_LAYOUT`, the layout of queues with groups. Every script that writes begins with the fragment `layout`.
-- USES meta
if meta.layout and tonumber(meta.layout) ~= KNOWN_LAYOUT and tonumber(meta.layout) ~= GROUPED_LAYOUT then
  return redis.error_reply('LAYOUT ' .. meta.layout)
end

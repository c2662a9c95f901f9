#!lua flags=no-writes
-- read: returns everything that is stored about messages, by id or by the producer's own id.
-- KEYS      aliases
-- USES      shown
-- ARGV      ids
-- Returns   for each id, up to 4 MiB and at least for the first id: false if unknown, or id, record, options, run,
--           outcome, due (ms) while delayed, deadline (ms) while leased, 1 while held, progress, the data of the signal
--           that released it, max_attempts of the queue
-- Complexity O(ids)
local reply, bytes = {}, 0
for i, id in ipairs(ARGV) do
  if not string.match(id, '^%d+$') then
    id = redis.call('HGET', ALIASES, id)
  end
  local shown_message, size = false, 0
  if id then shown_message, size = show(id) end
  bytes = bytes + size
  if bytes > MAX_BYTES and i > 1 then break end
  reply[i] = shown_message
end
return reply

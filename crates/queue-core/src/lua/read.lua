#!lua flags=no-writes
-- read: what is known of messages, by id or by the producer's own id.
-- KEYS      meta messages options prioritized delayed leased runs outcomes aliases
-- ARGV      the default of max_attempts; then ids
-- Returns   for each, up to 4 MiB of records and at least for the first: false if unknown, or id, record, options, run, outcome, due (ms) while delayed, deadline (ms)
--           while leased, max_attempts of the queue
-- Complexity O(ids)
local max_attempts = redis.call('HGET', META, 'max_attempts') or ARGV[1]
local reply, bytes = {}, 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if not string.match(id, '^%d+$') then
    id = redis.call('HGET', ALIASES, id)
  end
  local record = id and redis.call('HGET', MESSAGES, id)
  bytes = bytes + (record and #record or 0)
  if bytes > 4194304 and i > 2 then break end
  if record then
    reply[i - 1] = {
      id, record, redis.call('HGET', OPTIONS, id), redis.call('HGET', RUNS, id), redis.call('HGET', OUTCOMES, id),
      redis.call('ZSCORE', DELAYED, id), redis.call('ZSCORE', LEASED, id), max_attempts,
    }
  else
    reply[i - 1] = false
  end
end
return reply

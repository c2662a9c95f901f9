#!lua flags=no-writes
-- read: what is known of messages, by id or by the producer's own id.
-- KEYS      meta messages options delayed leased runs outcomes aliases held progress signalled
-- USES      settings fields held
-- ARGV      ids
-- Returns   for each, up to 4 MiB and at least for the first: false if unknown, or id, record, options, run,
--           outcome, due (ms) while delayed, deadline (ms) while leased, 1 while held, progress, the data of the signal
--           that released it, max_attempts of the queue
-- Complexity O(ids)
read_settings('max_attempts')
local reply, bytes = {}, 0
for i, id in ipairs(ARGV) do
  if not string.match(id, '^%d+$') then
    id = redis.call('HGET', ALIASES, id)
  end
  local record = id and redis.call('HGET', MESSAGES, id)
  if record then
    local outcome, progress = redis.call('HGET', OUTCOMES, id), redis.call('HGET', PROGRESS, id)
    bytes = bytes + #record + (outcome and #outcome or 0) + (progress and #progress or 0)
    if bytes > 4194304 and i > 1 then break end
    local options = redis.call('HGET', OPTIONS, id)
    reply[i] = {
      id, record, options, redis.call('HGET', RUNS, id), outcome,
      redis.call('ZSCORE', DELAYED, id), redis.call('ZSCORE', LEASED, id),
      held_member(id, options) and 1 or false, progress,
      redis.call('HGET', SIGNALLED, id), set.max_attempts,
    }
  else
    reply[i] = false
  end
end
return reply

-- shown: reads everything that is stored about one message, and returns the number of bytes, too.
-- KEYS messages options delayed leased runs outcomes progress signalled
-- USES meta purged held
local function show(id)
  local record = redis.call('HGET', MESSAGES, id)
  if not record then return false, 0 end
  local options, run = redis.call('HGET', OPTIONS, id), redis.call('HGET', RUNS, id)
  local outcome, progress = redis.call('HGET', OUTCOMES, id), redis.call('HGET', PROGRESS, id)
  local signal_data = redis.call('HGET', SIGNALLED, id)
  local due_instant, deadline = redis.call('ZSCORE', DELAYED, id), redis.call('ZSCORE', LEASED, id)
  local is_held = held_member(id, options) and 1 or false
  if not (outcome or due_instant or deadline or is_held) and is_purged(id) then return false, 0 end
  local bytes = #record + #(options or '') + #(run or '') + #(outcome or '') + #(progress or '') + #(signal_data or '')
  return { id, record, options, run, outcome, due_instant, deadline, is_held, progress, signal_data, meta.max_attempts }, bytes
end

-- attempt: records a failed attempt of a message. The message is retried after its back-off while it has attempts left; otherwise
-- the message fails. `jitter_or_pause` is a random number in [0, 1) for the jitter of the back-off, or '+' and the pause in ms.
-- Returns the new state of the message.
-- USES meta clock fields run totals extra errors finish backoff requeue
local function fail_attempt(id, run_text, options, jitter_or_pause, error_json)
  local run = parse_run(run_text)
  local max_attempts = tonumber(field(options, 'a') or meta.max_attempts)
  if run.attempts + 1 >= max_attempts then
    finish(id, 'f', run_text, error_json)
    return 'failed'
  end
  count('retried')
  run.attempts = run.attempts + 1
  add_error(run, run.attempts, now, error_json)
  local pause
  if string.byte(jitter_or_pause) == 43 then
    pause = tonumber(jitter_or_pause)
  else
    pause = backoff(field(options, 'b') or meta.backoff, run.attempts, tonumber(jitter_or_pause))
  end
  run.settled = 'f' .. (pause > 0 and 'd' or 'w') .. run.token
  run.token = ''
  set_ready_at(run, now + pause)
  record_extra(#run.error)
  return requeue(id, format_run(run), pause, 'tail')
end

-- run: what is remembered of a message's deliveries, as tab-separated text:
--   token, started (ms), attempts, lapses, deliveries, consumer, settled, error
-- `token` is that of the live lease; with a `!` before it the lease has lapsed and the message is back in the line;
-- empty between leases. `settled` is the last settle that did not finish the message: its letter (b: given
-- back), the state that it led to, and its token.
-- `error` is the last one: attempt, instant (ms) and JSON, separated by spaces.
local function parse_run(text)
  local token, started, attempts, lapses, deliveries, consumer, settled, err
  if text then
    token, started, attempts, lapses, deliveries, consumer, settled, err = string.match(
      text, '^([^\t]*)\t(%d*)\t(%d+)\t(%d+)\t(%d+)\t([^\t]*)\t([^\t]*)\t(.*)$')
  end
  return {
    token = token or '', started = started or '', attempts = tonumber(attempts) or 0,
    lapses = tonumber(lapses) or 0, deliveries = tonumber(deliveries) or 0, consumer = consumer or '',
    settled = settled or '', error = err or '',
  }
end

local function format_run(run)
  return table.concat({
    run.token, run.started, run.attempts, run.lapses, run.deliveries, run.consumer, run.settled, run.error,
  }, '\t')
end

local NEVER_RUN = format_run(parse_run(nil))

-- Which attempt an event is about, and whose: the run's last one that failed, or `more` after it.
local function attempt_of(run, more)
  return '\ta' .. run.attempts + more .. (run.consumer ~= '' and '\tc' .. run.consumer or '')
end

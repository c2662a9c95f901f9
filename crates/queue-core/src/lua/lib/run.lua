-- run: what is remembered of a message's deliveries, as tab-separated text:
--   token, started (ms), attempts, lapses, deliveries, consumer, settled, terms, error
-- `token` is that of the live lease; with a `!` before it the lease has lapsed and the message is back in the waiting
-- list; empty between leases. `settled` is the last settle that did not finish the message: its letter (b: given
-- back), the state that it led to, and its token.
-- `terms` has a letter and a number (ms) for each that is needed. Of the lease, as it was handed out, whatever the settings
-- are by now: v, its visibility timeout unless that is the library's default; t, the queue's `timeout`; x, how long it was
-- extended for, if that was longer than its visibility timeout. Of a message that came back: r, the instant from which on it
-- is ready again.
-- `error` is the last one: attempt, instant (ms) and JSON, separated by spaces.
local function term(terms, letter)
  return terms ~= '' and tonumber(string.match(terms, letter .. '(%d+)')) or nil
end

local function parse_run(text)
  local token, started, attempts, lapses, deliveries, consumer, settled, terms, err
  if text then
    token, started, attempts, lapses, deliveries, consumer, settled, terms, err = string.match(
      text, '^([^\t]*)\t(%d*)\t(%d+)\t(%d+)\t(%d+)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$')
  end
  terms = terms or ''
  return {
    token = token or '', started = started or '', attempts = tonumber(attempts) or 0,
    lapses = tonumber(lapses) or 0, deliveries = tonumber(deliveries) or 0, consumer = consumer or '',
    settled = settled or '', error = err or '',
    visibility = term(terms, 'v') or DEFAULT_VISIBILITY, timeout = term(terms, 't'), extension = term(terms, 'x'),
    ready = term(terms, 'r'),
  }
end

local function format_run(run)
  local terms = ''
  if run.visibility ~= DEFAULT_VISIBILITY then terms = 'v' .. run.visibility end
  if run.timeout then terms = terms .. 't' .. run.timeout end
  if run.extension then terms = terms .. 'x' .. run.extension end
  if run.ready then terms = terms .. 'r' .. string.format('%d', run.ready) end
  return table.concat({
    run.token, run.started, run.attempts, run.lapses, run.deliveries, run.consumer, run.settled, terms, run.error,
  }, '\t')
end

-- The lease has ended, and the message is ready again at this time (ms).
local function becomes_ready_at(run, ready)
  run.visibility, run.timeout, run.extension, run.ready = DEFAULT_VISIBILITY, nil, nil, ready
end

local NEVER_RUN = format_run(parse_run(nil))

-- Which attempt an event is about, and whose: the run's last one that failed, or `more` after it.
local function attempt_of(run, more)
  return '\ta' .. run.attempts + more .. (run.consumer ~= '' and '\tc' .. run.consumer or '')
end

-- run: reads and writes the run, the stored facts about a message's deliveries, as tab-separated text:
--   token, started (ms), attempts, lapses, deliveries, consumer, settled, terms, error
-- `token` is the token of the live lease; a `!` before it means that the lease has lapsed and the message has returned to the
-- waiting list; the token is empty between leases. `settled` is the last settle that did not finish the message: a letter (f: a failed
-- attempt, r: a release, b: undone because its handler never started), the first letter of the new state, and the token of the
-- settled lease.
-- `terms` has a letter and a number (ms) for each value that is needed. The terms of a lease are: v, its visibility timeout unless that
-- is the library's default; t, the queue's `timeout` when the lease began; x, the duration of its last extension, if longer than its
-- visibility timeout. A later change of the settings changes no term. The term of a requeued message is r, the instant at which the
-- message is ready. `error` is the last error: attempt, instant (ms) and JSON, separated by spaces; `errors` describes the JSON.
local function term_value(terms, letter)
  return terms ~= '' and tonumber(string.match(terms, letter .. '(%d+)')) or nil
end

local function parse_run(run_text)
  local token, started, attempts, lapses, deliveries, consumer, settled, terms, last_error
  if run_text then
    token, started, attempts, lapses, deliveries, consumer, settled, terms, last_error = string.match(
      run_text, '^([^\t]*)\t(%d*)\t(%d+)\t(%d+)\t(%d+)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$')
  end
  terms = terms or ''
  return {
    token = token or '', started = started or '', attempts = tonumber(attempts) or 0,
    lapses = tonumber(lapses) or 0, deliveries = tonumber(deliveries) or 0, consumer = consumer or '',
    settled = settled or '', error = last_error or '',
    visibility = term_value(terms, 'v') or DEFAULT_VISIBILITY, timeout = term_value(terms, 't'), extension = term_value(terms, 'x'),
    ready = term_value(terms, 'r'),
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

-- Removes the terms of a lease that has ended, and stores the instant (ms) at which the message is ready again.
local function set_ready_at(run, ready)
  run.visibility, run.timeout, run.extension, run.ready = DEFAULT_VISIBILITY, nil, nil, ready
end

-- The run of a message that was never leased, as `format_run` would write it.
local NEVER_RUN = '\t\t0\t0\t0\t\t\t\t'

-- Returns two fields of an event: the attempt, which is the number of the run's failed attempts plus `more`; and the consumer.
local function attempt_of(run, more)
  return '\ta' .. run.attempts + more .. (run.consumer ~= '' and '\tc' .. run.consumer or '')
end

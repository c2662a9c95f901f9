-- finish: messages become completed or failed. Gathered with `finish`, written by `write_finished` in a few variadic
-- calls, counted, and told to those who wait for one of them. A queue that keeps none forgets them at once.
-- An outcome is a letter (c: completed, f: an attempt failed for good, l: failed, but not by an attempt), the instant
-- (ms), a tab, the run as it was, a line feed, and the JSON of the result or error.
local function nothing_finished()
  return { n = 0, ids = {}, outcomes = {}, completed = { n = 0, ids = {} }, failed = { n = 0, ids = {} } }
end
local finished = nothing_finished()

local outcome_starts = { c = 'c' .. now_text .. '\t', f = 'f' .. now_text .. '\t', l = 'l' .. now_text .. '\t' }

local function finish(id, letter, run, json)
  local n = finished.n + 1
  finished.n = n
  finished.ids[n] = id
  finished.outcomes[n] = outcome_starts[letter] .. run .. '\n' .. json
  local of_kind = letter == 'c' and finished.completed or finished.failed
  n = of_kind.n + 1
  of_kind.n = n
  of_kind.ids[n] = id
end

local CANCELLED = '{"code":"cancelled","message":"cancelled on request"}'

local function describe_end(_, i)
  local letter, run, json = string.match(finished.outcomes[i], '^(.)%d+\t([^\n]*)\n(.*)$')
  local attempt = attempt_of(parse_run(run), letter == 'l' and 0 or 1)
  if letter == 'c' then return 'completed', attempt end
  return 'failed', attempt, json
end

-- The outcomes of what is kept, each behind its id.
local function kept_outcomes(keeps_completed, keeps_failed)
  local kept, n = {}, 0
  for i = 1, finished.n do
    local outcome = finished.outcomes[i]
    local is_kept = keeps_completed
    if keeps_completed ~= keeps_failed and string.byte(outcome) ~= 99 then is_kept = keeps_failed end
    if is_kept then
      kept[n + 1], kept[n + 2] = finished.ids[i], outcome
      n = n + 2
    end
  end
  return kept, n
end

local function write_finished()
  if finished.n == 0 then return end
  local completed, failed = finished.completed, finished.failed
  if completed.n > 0 then count('completed', completed.n) end
  if failed.n > 0 then count('failed', failed.n) end
  tell(finished.ids, describe_end)
  redis.call('HDEL', RUNS, unpack(finished.ids))
  local keeps_completed, keeps_failed = not keeps_none('completed'), not keeps_none('failed')
  if completed.n > 0 and not keeps_completed then forget(completed.ids) end
  if failed.n > 0 and not keeps_failed then forget(failed.ids) end
  local outcomes, n = kept_outcomes(keeps_completed, keeps_failed)
  if n > 0 then redis.call('HSET', OUTCOMES, unpack(outcomes, 1, n)) end
  if completed.n > 0 and keeps_completed then redis.call('RPUSH', COMPLETED, unpack(completed.ids)) end
  if failed.n > 0 and keeps_failed then
    local places = {}
    for i, id in ipairs(failed.ids) do
      places[2 * i - 1], places[2 * i] = now_text, id
    end
    redis.call('ZADD', FAILED, unpack(places))
  end
  tell_waiters(finished.ids)
  finished = nothing_finished()
end

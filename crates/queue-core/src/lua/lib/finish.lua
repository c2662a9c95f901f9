-- finish: makes messages completed or failed. The function `finish` collects finished messages; `write_finished` writes them with a
-- few commands, counts them, and notifies clients that wait for them. If the settings of a queue keep no finished messages, messages
-- are forgotten as soon as they finish. An outcome is a letter (c: completed, f: failed by its last attempt, l: failed, but not by an
-- attempt), the instant (ms), a tab, the message's last run, a line feed, and the JSON of the result or error.
-- KEYS runs completed failed outcomes aliases awaited
-- USES instants run totals events waiters retention forget
local function no_finished_messages()
  -- `outcomes` has ids and outcomes alternately; `failed` has the ids of the failed messages.
  return { n = 0, ids = {}, outcomes = {}, failed = {} }
end
local finished = no_finished_messages()

local outcome_starts = { c = 'c' .. now_text .. '\t', f = 'f' .. now_text .. '\t', l = 'l' .. now_text .. '\t' }

local function finish(id, letter, run, json)
  local n, outcomes = finished.n + 1, finished.outcomes
  finished.n, finished.ids[n] = n, id
  outcomes[2 * n - 1], outcomes[2 * n] = id, outcome_starts[letter] .. run .. '\n' .. json
  if letter ~= 'c' then finished.failed[#finished.failed + 1] = id end
end

local CANCELLED = '{"code":"cancelled","message":"cancelled on request"}'

local function describe_end(_, i)
  local letter, run, json = string.match(finished.outcomes[2 * i], '^(.)%d+\t([^\n]*)\n(.*)$')
  local attempt = attempt_of(parse_run(run), letter == 'l' and 0 or 1)
  if letter == 'c' then return 'completed', attempt end
  return 'failed', attempt, json
end

-- Returns the ids of the completed messages; then, for the finished messages that are kept, ids and outcomes alternately.
local function sort_finished(keeps_completed, keeps_failed)
  if #finished.failed == 0 then return finished.ids, keeps_completed and finished.outcomes or {} end
  local completed_ids, kept = {}, {}
  for i = 1, finished.n do
    local id, outcome = finished.ids[i], finished.outcomes[2 * i]
    local is_kept = keeps_failed
    if string.byte(outcome) == 99 then
      completed_ids[#completed_ids + 1] = id
      is_kept = keeps_completed
    end
    if is_kept then
      kept[#kept + 1] = id
      kept[#kept + 1] = outcome
    end
  end
  return completed_ids, kept
end

local function write_finished()
  if finished.n == 0 then return end
  local keeps_completed, keeps_failed = limits_of('completed').count > 0, limits_of('failed').count > 0
  local failed_ids = finished.failed
  local completed, outcomes = sort_finished(keeps_completed, keeps_failed)
  if #completed > 0 then count('completed', #completed) end
  if #failed_ids > 0 then count('failed', #failed_ids) end
  record_events(finished.ids, describe_end)
  -- One command checks the keys `aliases` and `awaited` together, because most queues have neither key.
  local has_rare_keys = redis.call('EXISTS', ALIASES, AWAITED) > 0
  if has_rare_keys and redis.call('EXISTS', ALIASES) == 1 then keep_own_ids_taken(finished.ids) end
  redis.call('HDEL', RUNS, unpack(finished.ids))
  if #completed > 0 and not keeps_completed then forget(completed, 'taken') end
  if #failed_ids > 0 and not keeps_failed then forget(failed_ids, 'taken') end
  if #outcomes > 0 then redis.call('HSET', OUTCOMES, unpack(outcomes)) end
  if #completed > 0 and keeps_completed then redis.call('RPUSH', COMPLETED, unpack(completed)) end
  if #failed_ids > 0 and keeps_failed then
    local entries = {}
    for i, id in ipairs(failed_ids) do
      entries[2 * i - 1], entries[2 * i] = now_text, id
    end
    redis.call('ZADD', FAILED, unpack(entries))
  end
  if has_rare_keys then notify_waiters(finished.ids) end
  finished = no_finished_messages()
end

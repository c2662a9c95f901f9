-- finish: messages become completed or failed. Gathered with `finish`, written by `write_finished` in a few variadic
-- calls, counted, and told to those who wait for one of them. A queue that keeps none forgets them at once.
-- An outcome is a letter (c: completed, f: an attempt failed for good, l: failed, but not by an attempt), the instant
-- (ms), a tab, the run as it was, a line feed, and the JSON of the result or error.
local function nothing_finished()
  return { outcomes = {}, ids = {}, completed = {}, failed = {} }
end
local finished = nothing_finished()

local function finish(id, letter, run, json)
  finished.ids[#finished.ids + 1] = id
  local kind = letter == 'c' and 'completed' or 'failed'
  count(kind)
  local of_kind = finished[kind]
  of_kind[#of_kind + 1] = id
  finished.outcomes[id] = letter .. now_text .. '\t' .. run .. '\n' .. json
end

local CANCELLED = '{"code":"cancelled","message":"cancelled on request"}'

local function describe_end(id)
  local letter, run, json = string.match(finished.outcomes[id], '^(.)%d+\t([^\n]*)\n(.*)$')
  local attempt = attempt_of(parse_run(run), letter == 'l' and 0 or 1)
  if letter == 'c' then return 'completed', attempt end
  return 'failed', attempt, json
end

local function write_finished()
  if #finished.ids == 0 then return end
  tell(finished.ids, describe_end)
  redis.call('HDEL', RUNS, unpack(finished.ids))
  local outcomes = {}
  for _, kind in ipairs({ 'completed', 'failed' }) do
    local ids = finished[kind]
    if #ids > 0 and keeps_none(kind) then
      forget(ids)
    else
      for _, id in ipairs(ids) do
        outcomes[#outcomes + 1] = id
        outcomes[#outcomes + 1] = finished.outcomes[id]
      end
    end
  end
  if #outcomes > 0 then redis.call('HSET', OUTCOMES, unpack(outcomes)) end
  if #finished.completed > 0 and not keeps_none('completed') then
    redis.call('RPUSH', COMPLETED, unpack(finished.completed))
  end
  if #finished.failed > 0 and not keeps_none('failed') then
    local failed = {}
    for _, id in ipairs(finished.failed) do
      failed[#failed + 1] = now_text
      failed[#failed + 1] = id
    end
    redis.call('ZADD', FAILED, unpack(failed))
  end
  tell_waiters(finished.ids)
  finished = nothing_finished()
end

#!lua flags=allow-oom
-- settle: ends leases, each on its own: complete, fail, or release.
-- KEYS      meta messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited wake
-- USES      clock fields wake line run backoff finish trim
-- ARGV      defaults of settings that the queue lacks: max_attempts, backoff, retention of completed, of failed;
--           then for each settlement five: id, token, action, extra, value.
--           action c completes (value: the result's JSON); f fails an attempt (value: the error's JSON; extra: a random
--           number in [0, 1) for the back-off, or '+' and the pause in ms); x fails for good (value: the error's
--           JSON); r releases without an attempt spent (extra: the pause in ms, or '' for the head of the line)
-- Returns   for each: completed, failed, delayed, waiting; or gone: the lease is over and nothing was changed
-- Complexity O(settlements · log N)
local default_max_attempts, default_backoff, default_completed, default_failed = unpack(ARGV, 1, 4)
local FIRST, STRIDE = 5, 5

local ids, seen = {}, {}
for i = FIRST, #ARGV, STRIDE do
  local id = ARGV[i]
  if not seen[id] then
    seen[id] = true
    ids[#ids + 1] = id
  end
end
local runs, options = {}, {}
local any_options = redis.call('HLEN', OPTIONS) > 0
local run_texts = redis.call('HMGET', RUNS, unpack(ids))
local option_texts = any_options and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
for i, id in ipairs(ids) do
  runs[id], options[id] = run_texts[i], option_texts[i]
end
local set = redis.call('HMGET', META, 'max_attempts', 'backoff', 'retention.completed', 'retention.failed')

local answers = {}
local no_longer_leased, changed_runs, delayed, head, tail, leaving = {}, {}, {}, {}, {}, {}
local retried, earliest = 0, math.huge

-- The same settle again, because its answer was lost, is answered as the first time.
local function answer_again(id, token, action)
  if answers[id .. action .. token] then return answers[id .. action .. token] end
  local run = runs[id]
  if run then
    local settled = parse_run(run).settled
    if settled == action .. 'd' .. token then return 'delayed' end
    if settled == action .. 'w' .. token then return 'waiting' end
    return 'gone'
  end
  local outcome = redis.call('HGET', OUTCOMES, id)
  if not outcome then return 'gone' end
  local letter, settled_by = string.match(outcome, '^(.)%d+\t([^\t]*)')
  if settled_by ~= token then return 'gone' end
  if letter == 'c' and action == 'c' then return 'completed' end
  if letter == 'f' and (action == 'f' or action == 'x') then return 'failed' end
  return 'gone'
end

local function end_lease(id)
  no_longer_leased[#no_longer_leased + 1] = id
end

-- Back to the line, or to the delayed ones, with what is known of its runs.
local function put_back(id, run, action, pause, line)
  local state = pause > 0 and 'delayed' or 'waiting'
  run.settled = action .. string.sub(state, 1, 1) .. run.token
  run.token = ''
  if pause > 0 then
    delayed[#delayed + 1] = now + pause
    delayed[#delayed + 1] = id
    earliest = math.min(earliest, now + pause)
  else
    line[#line + 1] = id
  end
  runs[id] = format_run(run)
  changed_runs[#changed_runs + 1] = id
  changed_runs[#changed_runs + 1] = runs[id]
  return state
end

local function fail(id, token, action, extra, json)
  local run = parse_run(runs[id])
  local max_attempts = tonumber(field(options[id], 'a') or set[1] or default_max_attempts)
  if action == 'x' or run.attempts + 1 >= max_attempts then
    finish(id, 'f', runs[id], json)
    runs[id] = false
    return 'failed'
  end
  run.attempts = run.attempts + 1
  run.error = run.attempts .. ' ' .. now .. ' ' .. json
  retried = retried + 1
  local pause
  if string.byte(extra) == 43 then
    pause = tonumber(extra)
  else
    pause = backoff(field(options[id], 'b') or set[2] or default_backoff, run.attempts, tonumber(extra))
  end
  return put_back(id, run, action, pause, tail)
end

local function settle(id, token, action, extra, value)
  local run = runs[id]
  local leased = run and string.sub(run, 1, #token + 1) == token .. '\t'
  local lapsed = run and string.sub(run, 1, #token + 2) == '!' .. token .. '\t'
  if lapsed and action == 'c' then
    -- The lease lapsed, but nobody has the message yet: the work is done, so it counts.
    leaving[#leaving + 1] = id
    runs[id] = false
    finish(id, 'c', string.sub(run, 2), value)
    return 'completed'
  end
  if not leased then
    return answer_again(id, token, action)
  end
  end_lease(id)
  if action == 'c' then
    runs[id] = false
    finish(id, 'c', run, value)
    return 'completed'
  elseif action == 'r' then
    return put_back(id, parse_run(run), action, tonumber(extra) or 0, head)
  end
  return fail(id, token, action, extra, value)
end

local reply = {}
for i = FIRST, #ARGV, STRIDE do
  local id, token, action, extra, value = unpack(ARGV, i, i + STRIDE - 1)
  local answer = settle(id, token, action, extra, value)
  answers[id .. action .. token] = answer
  reply[#reply + 1] = answer
end

-- Nothing was written until here.
leave_line(leaving)
if #no_longer_leased > 0 then redis.call('ZREM', LEASED, unpack(no_longer_leased)) end
if #changed_runs > 0 then redis.call('HSET', RUNS, unpack(changed_runs)) end
if retried > 0 then redis.call('HINCRBY', META, 'total:retried', retried) end
write_finished()
local was_empty = false
if #head > 0 then
  table.sort(head)
  was_empty = join_head(head)
end
if #tail > 0 then was_empty = join_tail(tail) or was_empty end
if was_empty then look_now() end
if #delayed > 0 then
  redis.call('ZADD', DELAYED, unpack(delayed))
  look_at(earliest)
end
if #finished.completed > 0 then
  trim_completed(set[3] or default_completed, 2 * #finished.completed)
end
if #finished.failed > 0 then
  trim_failed(set[4] or default_failed, #finished.failed)
end
return reply

#!lua flags=allow-oom
-- settle: ends leases, each on its own: complete, fail, or release.
-- KEYS      meta seq messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited held expiring blocking cancelling progress erased signals sticky sticky_until signalled dedup dedup_until events wake
-- USES      clock settings fields events totals wake run line held state trim waiters finish backoff timeout front comeback attempt recover owner
-- ARGV      a random number in [0, 1), then for each settlement five: id, token, action, extra, value.
--           action c completes (value: the result's JSON); f fails an attempt (value: the error's JSON; extra: a random
--           number in [0, 1) for the back-off, or '+' and the pause in ms); x fails for good (value: the error's
--           JSON); r releases without an attempt spent (extra: the pause in ms, or '' for the head of the line)
-- Returns   for each: completed, failed, delayed, waiting; or gone: the lease is over and nothing was changed
-- Complexity O(settlements · log N)
local FIRST, STRIDE = 2, 5
read_settings('max_attempts', 'backoff', 'max_lapses', 'timeout', 'exclusive', 'retention.completed', 'retention.failed')

-- First of all, so that what has lapsed is answered as such, whoever found it.
recover(1000, tonumber(ARGV[1]))
write_comebacks()
write_finished()

local ids, seen = {}, {}
for i = FIRST, #ARGV, STRIDE do
  local id = ARGV[i]
  if not seen[id] then
    seen[id] = true
    ids[#ids + 1] = id
  end
end
local runs, options, cancelling = {}, {}, {}
local run_texts = redis.call('HMGET', RUNS, unpack(ids))
local option_texts = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
local any_cancelling = redis.call('EXISTS', CANCELLING) == 1
local marks = any_cancelling and redis.call('SMISMEMBER', CANCELLING, unpack(ids)) or {}
for i, id in ipairs(ids) do
  runs[id], options[id], cancelling[id] = run_texts[i], option_texts[i], marks[i] == 1
end

local answers = {}
local no_longer_leased, leaving = {}, {}

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
  local outcome = finished.outcomes[id] or redis.call('HGET', OUTCOMES, id)
  if not outcome then return 'gone' end
  local letter, settled_by = string.match(outcome, '^(.)%d+\t([^\t]*)')
  if settled_by ~= token then return 'gone' end
  if letter == 'c' then return action == 'c' and 'completed' or 'gone' end
  -- A release of what was to be cancelled failed it too.
  if action ~= 'c' then return 'failed' end
  return 'gone'
end

local function release(id, text, pause)
  local run = parse_run(text)
  run.settled = 'r' .. (pause > 0 and 'd' or 'w') .. run.token
  run.token = ''
  may_expire_again(id, options[id], run)
  return come_back(id, format_run(run), pause, 'head')
end

local function settle(id, token, action, extra, value)
  local run = runs[id]
  local leased = run and token ~= '' and string.sub(run, 1, #token + 1) == token .. '\t'
  if run and action == 'c' and string.sub(run, 1, #token + 2) == '!' .. token .. '\t' then
    -- The lease lapsed, but nobody has the message yet: the work is done, so it counts.
    leaving[#leaving + 1] = id
    runs[id] = false
    finish(id, 'c', string.sub(run, 2), value)
    return 'completed'
  end
  if not leased then return answer_again(id, token, action) end
  no_longer_leased[#no_longer_leased + 1] = id
  runs[id] = false
  if action == 'c' then
    finish(id, 'c', run, value)
    return 'completed'
  elseif cancelling[id] then
    count('cancelled')
    finish(id, action == 'r' and 'l' or 'f', run, CANCELLED)
    return 'failed'
  elseif action == 'x' then
    finish(id, 'f', run, value)
    return 'failed'
  end
  local state
  if action == 'r' then
    state = release(id, run, tonumber(extra) or 0)
  else
    state = fail_attempt(id, run, options[id], extra, value)
  end
  if state ~= 'failed' then runs[id] = comebacks.runs[#comebacks.runs] end
  return state
end

local reply = {}
for i = FIRST, #ARGV, STRIDE do
  local id, token, action, extra, value = unpack(ARGV, i, i + STRIDE - 1)
  local answer = settle(id, token, action, extra, value)
  answers[id .. action .. token] = answer
  reply[#reply + 1] = answer
end

leave_line(leaving)
if #no_longer_leased > 0 then
  redis.call('ZREM', LEASED, unpack(no_longer_leased))
  if any_cancelling then redis.call('SREM', CANCELLING, unpack(no_longer_leased)) end
end
local was_empty = write_comebacks()
write_finished()
if was_empty then look_now() end
if set.exclusive and #no_longer_leased > 0 then call_next() end
local completed, failed = totals.completed or 0, totals.failed or 0
write_totals()
if completed + failed > 0 then
  trim_completed(2 * completed)
  trim_failed(failed)
  -- When nothing finishes any more, somebody must still look at what is kept.
  local instant = next_trim()
  if instant < math.huge then look_at(math.max(instant, now + 100)) end
end
return reply

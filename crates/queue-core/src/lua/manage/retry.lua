#!lua flags=allow-oom
-- retry: makes failed messages ready at once, with their attempts and lapses reset and without a ttl. In an exclusive queue, the
-- script refuses to retry messages with a group.
-- KEYS      options runs failed outcomes
-- USES      meta clock instants fields run events extra errors groups waiting_list wake state failed
-- ARGV      'one', id (Drover's or the producer's own); or 'some', epoch, the instant (ms) up to which the messages failed ('' at
--           first: now)
-- Returns   'one': the state in which the message was found, or false: unknown; only a failed message is changed. 'some': how many
--           messages were retried, the instant, and 1 if more messages follow; or the error EPOCH. In both
--           cases the error EXCLUSIVE if a message has a group, and the queue is exclusive
-- Complexity O(messages · log N)
local EXCLUSIVE = 'EXCLUSIVE a message has a group, and the queue is exclusive'
local function is_any_refused(ids)
  if not meta.exclusive or #ids == 0 then return false end
  for _, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
    if groups.key_of(options) then return true end
  end
  return false
end

local function retry(ids)
  local outcomes = redis.call('HMGET', OUTCOMES, unpack(ids))
  local options = redis.call('HMGET', OPTIONS, unpack(ids))
  local runs = {}
  for i, id in ipairs(ids) do
    local outcome_kind, failed_at, run_text, error_json = string.match(outcomes[i] or '', '^(.)(%d+)\t([^\n]*)\n(.*)$')
    local run = parse_run(run_text)
    -- The last error of the message stays in its run. With an outcome of kind f the last attempt failed, and counts as an attempt;
    -- with kind l the message failed without a failed attempt.
    if outcome_kind then add_error(run, run.attempts + (outcome_kind == 'f' and 1 or 0), failed_at, error_json) end
    run.token, run.started, run.consumer, run.settled, run.attempts, run.lapses = '', '', '', '', 0, 0
    set_ready_at(run, now)
    record_extra(#run.error)
    runs[#runs + 1] = id
    runs[#runs + 1] = format_run(run)
    if field(options[i], 'e') then
      redis.call('HSET', OPTIONS, id, (string.gsub(options[i], '\te[^\t]*', '')))
    end
  end
  record_events(ids, function() return 'retried' end)
  redis.call('ZREM', FAILED, unpack(ids))
  redis.call('HDEL', OUTCOMES, unpack(ids))
  redis.call('HSET', RUNS, unpack(runs))
  groups.tally(options, 1)
  local needs_wake_up = push_tail(ids)
  if groups.write() or needs_wake_up then wake_now() end
end

if ARGV[1] == 'one' then
  local id = drovers_id(ARGV[2])
  local state = state_of(id, redis.call('HGET', OPTIONS, id))
  if state == 'failed' then
    if is_any_refused({ id }) then return redis.error_reply(EXCLUSIVE) end
    retry({ id })
  end
  return state
end
if meta.epoch ~= ARGV[2] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local last_instant = ARGV[3] == '' and now_text or ARGV[3]
local ids = failed_up_to(last_instant, MAX_RUNS / 2)
if is_any_refused(ids) then return redis.error_reply(EXCLUSIVE) end
if #ids > 0 then retry(ids) end
return { #ids, last_instant, #ids == MAX_RUNS / 2 and 1 or 0 }

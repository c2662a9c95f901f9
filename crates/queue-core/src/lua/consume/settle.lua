#!lua flags=allow-oom
-- settle: completes, fails or releases messages; each lease ends independently of the others.
-- KEYS      meta messages options delayed leased runs completed outcomes aliases awaited cancelling progress erased sticky signalled groups turns single_turns
-- ARGV      a random number in [0, 1) for back-offs, '' if no message is named more than once (else '1'), then batches of
--           settlements. A batch is '', the token, the action and its parameter, then for each settlement: id, value.
--           action c completes (value: the result's JSON); f fails an attempt (value: the error's JSON; parameter: a random
--           number in [0, 1) for the jitter of the back-off, or '+' and the pause in ms); x fails for good (value: the error's
--           JSON); r releases with no attempt spent (parameter: the pause in ms, '' for the head of the waiting list, or 'k' and
--           the key of the signal that the message waits for, unless that key has a sticky signal)
-- Returns   a text with one letter for each settlement: c completed, f failed, d delayed, w waiting, h held; or g: the lease is
--           over and nothing was changed
-- Complexity O(settlements · log N)

-- USES      meta clock instants watch retention next_change
-- Part 1: the plain path, for live leases that complete in a queue that uses no rare feature.

-- Returns the groups of the messages if each message has a group as its only option and no other message of its group is unfinished;
-- otherwise nil.
local function groups_of_only_ones(ids)
  local names = {}
  for i, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
    -- The group is the only option: a tab, the letter g, and the name.
    if not options or string.byte(options, 2) ~= 103 or string.find(options, '\t', 2, true) then return nil end
    names[i] = string.sub(options, 3)
  end
  for _, stored in ipairs(redis.call('HMGET', GROUPS, unpack(names))) do
    if stored ~= '/1' then return nil end
  end
  return names
end

-- Completes all leases of this call, and forgets completed messages beyond the retained count. Returns the reply; or nil if the
-- call needs part 2, and then it has changed nothing.
local function complete_all()
  local limits = limits_of('completed')
  if ARGV[2] ~= '' or meta.exclusive or meta.purged_to or (tonumber(meta.listened_until) or 0) > now
    or limits.count == 0 then return nil end
  local ids, starts, results, n = {}, {}, {}, 0
  local position, start = 3, nil
  while position < #ARGV do
    local id, value = ARGV[position], ARGV[position + 1]
    if id == '' then
      if ARGV[position + 2] ~= 'c' or value == '' then return nil end
      start = value .. '\t'
      position = position + 4
    else
      n = n + 1
      ids[n], starts[n], results[n] = id, start, value
      position = position + 2
    end
  end
  local rare_keys = redis.call('EXISTS', OPTIONS, ALIASES, AWAITED, CANCELLING, PROGRESS, ERASED, SIGNALLED)
  if rare_keys > 0 and not (meta.grouped and rare_keys == redis.call('EXISTS', OPTIONS)) or first_instant(LEASED) <= now then
    return nil
  end
  local first_id = redis.call('LINDEX', COMPLETED, 0)
  local first_at = first_id and finished_at(first_id) or now
  if first_at <= now - limits.age or first_at > now then return nil end
  local runs, outcomes = redis.call('HMGET', RUNS, unpack(ids)), {}
  local outcome_start = 'c' .. now_text .. '\t'
  for i, run in ipairs(runs) do
    if not run or string.find(run, starts[i], 1, true) ~= 1 then return nil end
    outcomes[2 * i - 1], outcomes[2 * i] = ids[i], outcome_start .. run .. '\n' .. results[i]
  end
  local names = rare_keys > 0 and groups_of_only_ones(ids)
  if names == nil then return nil end

  redis.call('ZREM', LEASED, unpack(ids))
  redis.call('HDEL', RUNS, unpack(ids))
  redis.call('HSET', OUTCOMES, unpack(outcomes))
  redis.call('HINCRBY', META, 'total:completed', n)
  local excess_count = redis.call('RPUSH', COMPLETED, unpack(ids)) - limits.count
  if excess_count > 0 and first_at <= now - limits.min_age then
    local k = math.min(2 * n, excess_count)
    -- The list `completed` is in the order of finishing: if the k-th message is old enough, all messages before it are old enough.
    -- An outcome that Drover did not write has no instant and counts as old: the script must not fail after its first write.
    while k > 1 and limits.min_age > 0
      and (finished_at(redis.call('LINDEX', COMPLETED, k - 1)) or 0) > now - limits.min_age do
      k = math.floor(k / 2)
    end
    excess_count = excess_count - k
    local forgotten_ids = pop_completed(k)
    redis.call('HDEL', MESSAGES, unpack(forgotten_ids))
    redis.call('HDEL', OUTCOMES, unpack(forgotten_ids))
    if names then redis.call('HDEL', OPTIONS, unpack(forgotten_ids)) end
  end
  if names then
    redis.call('HDEL', GROUPS, unpack(names))
    if redis.call('HINCRBY', META, 'grouped', -n) == 0 then
      redis.call('DEL', TURNS, SINGLE_TURNS)
      redis.call('HDEL', META, 'grouped', 'ready', 'turn', 'regrouping')
      redis.call('HSET', META, 'layout', KNOWN_LAYOUT)
    end
  end
  -- No message in `completed` may be forgotten before the instant `earliest_trim`.
  local earliest_trim = math.max(now + 100, first_at + (excess_count > 0 and limits.min_age or limits.age))
  if watch <= now or watch > earliest_trim then wake_at(math.max(now + 100, next_trim())) end
  return string.rep('c', n)
end
local completed_all = complete_all()
if completed_all then return completed_all end

-- USES      run totals purged groups waiting_list wake trim finish requeue attempt recover owner held sticky extra
-- Part 2: all calls that part 1 did not answer.

-- Lapsed leases are recovered first, so that the settlement of a lapsed lease has the same effect whether or not another call
-- recovered that lease before.
recover(MAX_RUNS, tonumber(ARGV[1]))
write_requeued()
write_finished()
local has_new_turns = groups.write()

local last = #ARGV
local ids, n = {}, 0
local position = 3
while position <= last do
  if ARGV[position] == '' then
    position = position + 4
  else
    n = n + 1
    ids[n] = ARGV[position]
    position = position + 2
  end
end
local runs = redis.call('HMGET', RUNS, unpack(ids))
local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
if groups.unfinished > 0 then groups.load_of(options) end
local has_cancelling = redis.call('EXISTS', CANCELLING) == 1
local is_cancelling = has_cancelling and redis.call('SMISMEMBER', CANCELLING, unpack(ids)) or {}

-- Later settlements of a message use the index of its first settlement, so that the outcome of the first settlement is known.
local indices, first_index, outcomes, is_requeued = nil, {}, {}, {}
if ARGV[2] ~= '' then
  indices = {}
  for i, id in ipairs(ids) do
    first_index[id] = first_index[id] or i
    indices[i] = first_index[id]
  end
end

local ended_ids, ended, completed_late, options_of_late = {}, 0, {}, {}
local LETTER_OF = { delayed = 'd', waiting = 'w', held = 'h', failed = 'f' }

-- Returns the reply to the settlement of a lease that is over. A settlement that is repeated because its reply was lost gets the same
-- reply again.
local function repeat_reply(id, index, token, action)
  local run = runs[index]
  -- Only a waiting message can be purged and still have a run; a message that this call requeued or that is delayed or held was not
  -- purged.
  if run and is_purged(id) and not is_requeued[index] and not redis.call('ZSCORE', DELAYED, id)
    and not held_member(id, options[index]) then return 'g' end
  if run then
    local settled = parse_run(run).settled
    for _, letter in pairs(LETTER_OF) do
      if settled == action .. letter .. token then return letter end
    end
    return 'g'
  end
  local outcome = outcomes[index] or redis.call('HGET', OUTCOMES, id)
  if not outcome then return 'g' end
  local letter, settled_by = string.match(outcome, '^(.)%d+\t([^\t]*)')
  if settled_by ~= token then return 'g' end
  if letter == 'c' then return action == 'c' and 'c' or 'g' end
  -- A release of a message that was to be cancelled has also failed the message.
  return action == 'c' and 'g' or 'f'
end

-- Stores the data of the signal that releases a message ('' for none), instead of the data of an earlier signal.
local function set_signal_data(id, data)
  if data == '' then
    redis.call('HDEL', SIGNALLED, id)
  else
    redis.call('HSET', SIGNALLED, id, data)
    record_extra(#data)
  end
end

-- Stores the hold key of a message, instead of an earlier one.
local function set_hold_key(id, message_options, key)
  message_options = string.gsub(message_options or '', '\tk[^\t]*', '') .. '\tk' .. key
  redis.call('HSET', OPTIONS, id, message_options)
  local bytes = redis.call('HSTRLEN', MESSAGES, id) + #message_options
  if bytes > (tonumber(meta.largest) or 0) then
    meta.largest = bytes
    redis.call('HSET', META, 'largest', bytes)
  end
end

-- Releases a message. `parameter` is the pause in ms, '' for none, or 'k' and a hold key.
local function release(id, text, message_options, parameter)
  local run, pause, hold_key = parse_run(text), tonumber(parameter) or 0, string.match(parameter, '^k(.*)$')
  local is_held = hold_key and not is_sticky(hold_key)
  run.settled = 'r' .. (is_held and 'h' or pause > 0 and 'd' or 'w') .. run.token
  run.token = ''
  -- The signal that releases a held message will store the instant at which the message is ready.
  set_ready_at(run, not is_held and now + pause or nil)
  may_expire_again(id, message_options, run)
  if hold_key then set_signal_data(id, not is_held and redis.call('HGET', STICKY, hold_key) or '') end
  if not is_held then return requeue(id, format_run(run), pause, 'head') end
  set_hold_key(id, message_options, hold_key)
  return hold_message(id, format_run(run), hold_key)
end

-- Settles a live lease by any action except `c`.
local function settle_other(id, index, action, parameter, value)
  local run = runs[index]
  if is_cancelling[index] == 1 then
    count('cancelled')
    finish(id, action == 'r' and 'l' or 'f', run, CANCELLED)
    return 'f'
  elseif action == 'x' then
    finish(id, 'f', run, value)
    return 'f'
  elseif action == 'r' then
    return LETTER_OF[release(id, run, options[index], parameter)]
  end
  return LETTER_OF[fail_attempt(id, run, options[index], parameter, value)]
end

local answers, find = {}, string.find
local token, action, parameter, start
local i = 0
position = 3
while position <= last do
  local id, value = ARGV[position], ARGV[position + 1]
  if id == '' then
    token, action, parameter = value, ARGV[position + 2], ARGV[position + 3]
    start = token .. '\t'
    position = position + 4
  else
    i = i + 1
    position = position + 2
    local index = indices and indices[i] or i
    local run = runs[index]
    local finished_before, requeued_before = finished.n, indices and #requeued.runs
    if run and token ~= '' and find(run, start, 1, true) == 1 then
      ended = ended + 1
      ended_ids[ended] = id
      if action == 'c' then
        finish(id, 'c', run, value)
        answers[i] = 'c'
      else
        answers[i] = settle_other(id, index, action, parameter, value)
      end
      if finished.n > finished_before then groups.leave(options[index]) end
    elseif run and action == 'c' and find(run, '!' .. start, 1, true) == 1 and not is_purged(id) then
      -- The lease lapsed, but the message was not leased again. The work is done, so the message completes.
      completed_late[#completed_late + 1] = id
      options_of_late[#completed_late] = options[index] or false
      finish(id, 'c', string.sub(run, 2), value)
      answers[i] = 'c'
    else
      answers[i] = repeat_reply(id, index, token, action)
    end
    if indices and finished.n > finished_before then
      runs[index], outcomes[index] = false, finished.outcomes[2 * finished.n]
    elseif indices and #requeued.runs > requeued_before then
      runs[index], is_requeued[index] = requeued.runs[#requeued.runs], true
    end
  end
end

remove_from_waiting_list(completed_late, options_of_late)
groups.tally(options_of_late, -1)
if ended > 0 then
  redis.call('ZREM', LEASED, unpack(ended_ids))
  if has_cancelling then redis.call('SREM', CANCELLING, unpack(ended_ids)) end
end
local was_empty = write_requeued()
write_finished()
was_empty = groups.write() or was_empty or has_new_turns
if was_empty then wake_now() end
if meta.exclusive and ended > 0 then wake_owner() end
local completed_count, failed = totals.completed or 0, totals.failed or 0
write_totals()
if completed_count + failed > 0 then
  if completed_count > 0 then trim_completed(2 * completed_count) end
  if failed > 0 then trim_failed(failed) end
  -- If no further message finishes, maintenance must trim the finished messages.
  local next_trim_at = next_trim()
  if next_trim_at < math.huge then wake_at(math.max(next_trim_at, now + 100)) end
end
return table.concat(answers)

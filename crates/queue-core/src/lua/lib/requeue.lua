-- requeue: makes unfinished messages whose lease has ended ready, delayed or held. The functions `requeue` and `hold_message` collect
-- the messages; `write_requeued` writes the collected messages, and returns whether a wake-up is necessary; the fragment
-- `waiting_list` defines when.
-- KEYS delayed runs held expiring blocking
-- USES meta clock fields run events waiting_list watch requeue_at_head
local function no_requeued_messages()
  return {
    ids = {}, event_fields = {}, runs = {}, delayed = {}, blocking = {}, held = {}, head = {}, tail = {}, earliest = math.huge,
  }
end
local requeued = no_requeued_messages()

local function collect_requeued(id, run, event_fields)
  requeued.ids[#requeued.ids + 1] = id
  requeued.event_fields[#requeued.ids] = event_fields
  requeued.runs[#requeued.runs + 1] = id
  requeued.runs[#requeued.runs + 1] = run
end

-- Requeues a message after a pause (ms), or, if the pause is 0, at the 'head' or 'tail' of the waiting list. Returns the new state
-- of the requeued message.
local function requeue(id, run, pause, side)
  collect_requeued(id, run, pause > 0 and '\td' .. now + pause or '')
  if pause > 0 then
    requeued.delayed[#requeued.delayed + 1] = now + pause
    requeued.delayed[#requeued.delayed + 1] = id
    requeued.earliest = math.min(requeued.earliest, now + pause)
    if meta.exclusive then requeued.blocking[#requeued.blocking + 1] = id end
    return 'delayed'
  end
  -- An exclusive queue keeps its order, so no message overtakes a requeued message.
  local target_ids = meta.exclusive and requeued.head or requeued[side]
  target_ids[#target_ids + 1] = id
  return 'waiting'
end

-- Makes a message held, so that it waits for the signal of a hold key. The caller of `hold_message` stores the hold key in the
-- message's options. Returns the new state of the message.
local function hold_message(id, run, key)
  collect_requeued(id, run, '\tk' .. key)
  requeued.held[#requeued.held + 1] = '0'
  requeued.held[#requeued.held + 1] = key .. '\t' .. id
  return 'held'
end

-- Restores the expiry of a message that was leased, if none of its attempts failed and none of its leases lapsed.
local function may_expire_again(id, options, run)
  local expires_at = tonumber(field(options, 'e'))
  if expires_at and run.attempts == 0 and run.lapses == 0 then
    redis.call('ZADD', EXPIRING, expires_at, id)
    wake_at(math.max(expires_at, now))
  end
end

-- Describes the event of a requeued message. The run of the message tells whether its lease lapsed, its consumer released it, or it
-- is retried.
local function describe_requeued(_, i)
  local run = parse_run(requeued.runs[2 * i])
  local event_type = string.byte(run.token) == 33 and 'lapsed' or string.sub(run.settled, 1, 1) == 'f' and 'retried' or 'released'
  if event_type ~= 'retried' then return event_type, attempt_of(run, 1) .. requeued.event_fields[i] end
  -- A quotation mark within a text has a backslash before it, so the member `earlier` is found without decoding the JSON.
  local error_json = string.gsub(string.match(run.error, '^%d+ %d+ (.*)$'), ',"earlier":%[.*$', '}')
  return event_type, attempt_of(run, 0) .. requeued.event_fields[i], error_json
end

local function write_requeued()
  if #requeued.runs == 0 then return false end
  redis.call('HSET', RUNS, unpack(requeued.runs))
  record_events(requeued.ids, describe_requeued)
  local was_empty = false
  if #requeued.head > 0 then was_empty = requeue_at_head(requeued.head) end
  if #requeued.tail > 0 then was_empty = push_tail(requeued.tail, true) or was_empty end
  if #requeued.delayed > 0 then
    redis.call('ZADD', DELAYED, unpack(requeued.delayed))
    wake_at(requeued.earliest)
  end
  if #requeued.held > 0 then redis.call('ZADD', HELD, unpack(requeued.held)) end
  if #requeued.blocking > 0 then redis.call('SADD', BLOCKING, unpack(requeued.blocking)) end
  requeued = no_requeued_messages()
  return was_empty
end

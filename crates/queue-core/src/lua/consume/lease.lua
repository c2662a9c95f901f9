#!lua flags=allow-oom
-- lease: maintains the queue, then hands out messages from the head of the waiting list, as many as the rate limit, the owner
-- of an exclusive queue and a pause permit.
-- KEYS      messages options waiting prioritized leased runs removed expiring signalled
-- USES      clock instants settings fields run totals events waiting_list watch trim finish timeout requeue expire clock_step maintain limiter owner
-- ARGV      epoch, maximum number of messages, maximum bytes of their records, token, consumer, owner timeout (ms) of an
--           exclusive queue ('' for the visibility timeout), the visibility timeout ('' for the queue's), a random number in [0, 1)
-- Returns   time (ms), deadline (ms), visibility timeout (ms), µs until the earliest known reason to call again (-1:
--           none), 1 if more is ready, max_attempts of the queue, its timeout (ms) or false, false or for each message
--           its own deadline, false or for each the data of the signal that released it, false or (in an exclusive queue)
--           the consumer that has access ('': nobody), false or for each its options, false or for each its run
--           before this lease; then for each message: id, record
-- Complexity O(messages · log N)
read_settings('epoch', 'visibility_timeout', 'max_attempts', 'backoff', 'max_lapses', 'timeout', 'exclusive',
  'retention.completed', 'retention.failed', 'rate_limit', 'limiter_used', 'owner', 'owner_until', 'paused', 'largest',
  'largest_extra', 'clock', 'mending')
if set.epoch ~= ARGV[1] then return redis.error_reply('EPOCH the queue is not the one that was declared') end
local max, max_bytes, token, consumer = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local visibility_timeout = tonumber(ARGV[7]) or tonumber(set.visibility_timeout)

maintain(tonumber(ARGV[8]))
write_requeued()

-- Limits how many ready messages are handed out. `opens_at` is the instant at which the limit changes, if it is known.
local opens_at = math.huge
local function at_most(allowed, instant)
  if allowed < max then max = allowed end
  if allowed <= 0 and instant then opens_at = math.min(opens_at, instant) end
end
if set.paused then at_most(0) end
if set.exclusive then at_most(leases_for_owner(consumer, tonumber(ARGV[6]) or visibility_timeout)) end
if set.rate_limit and max > 0 then at_most(permitted_leases(set.rate_limit)) end

-- One call checks all keys that most queues do not have.
local has_rare_keys = redis.call('EXISTS', PRIORITIZED, REMOVED, EXPIRING, SIGNALLED) > 0

local taken = {}
do
  -- Reads the ids before it removes them, so that messages that do not fit into the reply stay in the waiting list.
  local bytes = 0
  -- Room for a small error or small data of a signal beside the record.
  local ROOM_BESIDE_A_RECORD = 512
  local max_extra = 2 * (tonumber(set.largest_extra) or 0) + ROOM_BESIDE_A_RECORD
  local sizes_matter = ((tonumber(set.largest) or 0) + max_extra) * max > max_bytes
  local function size_of(id)
    return redis.call('HSTRLEN', MESSAGES, id) + redis.call('HSTRLEN', OPTIONS, id) + redis.call('HSTRLEN', RUNS, id)
      + redis.call('HSTRLEN', SIGNALLED, id)
  end
  local full = max <= 0
  local function take(candidates)
    if not sizes_matter and #taken == 0 then
      taken = candidates
      full = #taken >= max
      return #taken
    end
    local n = 0
    for _, id in ipairs(candidates) do
      if sizes_matter then
        bytes = bytes + size_of(id)
        if bytes > max_bytes and #taken > 0 then
          full = true
          break
        end
      end
      n = n + 1
      taken[#taken + 1] = id
    end
    full = full or #taken >= max
    return n
  end

  local function take_prioritized(from, to)
    if full then return end
    local ids = redis.call('ZRANGE', PRIORITIZED, from, to, 'BYSCORE', 'LIMIT', 0, max - #taken)
    local n = take(ids)
    if n > 0 then redis.call('ZREM', PRIORITIZED, unpack(ids, 1, n)) end
  end

  -- Ids of removed messages are still in the list; a bounded number of them is skipped per call.
  local function take_waiting()
    local any_removed = has_rare_keys and redis.call('EXISTS', REMOVED) == 1
    for _ = 1, 10 do
      if full then return end
      local wanted = max - #taken
      local ids = redis.call('LRANGE', WAITING, 0, (any_removed and math.max(wanted, 500) or wanted) - 1)
      if #ids == 0 then return end
      if not any_removed then
        redis.call('LTRIM', WAITING, take(ids), -1)
        return
      end
      local passed, skipped = 0, {}
      for i, is_removed in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
        if is_removed == 1 then
          skipped[#skipped + 1] = ids[i]
        elseif full or take({ ids[i] }) == 0 then
          break
        end
        passed = i
      end
      if passed > 0 then redis.call('LTRIM', WAITING, passed, -1) end
      if #skipped > 0 then redis.call('SREM', REMOVED, unpack(skipped)) end
    end
  end

  local any_prioritized = has_rare_keys and redis.call('EXISTS', PRIORITIZED) == 1
  if any_prioritized then take_prioritized('-inf', '(0') end
  take_waiting()
  if any_prioritized then take_prioritized('(0', '+inf') end
end

-- No message is handed out after its ttl, even when `maintain` had too many expired messages for one call.
local function drop_expired()
  if #taken == 0 or not has_rare_keys or redis.call('EXISTS', EXPIRING) == 0 then return end
  local ends = redis.call('ZMSCORE', EXPIRING, unpack(taken))
  local live = {}
  for i, id in ipairs(taken) do
    if ends[i] and tonumber(ends[i]) <= now then finish_expired(id) else live[#live + 1] = id end
  end
  redis.call('ZREM', EXPIRING, unpack(taken))
  taken = live
end
drop_expired()
write_finished()
local clean_at
if #taken == 0 then clean_at = clean() elseif totals.failed then trim_failed(200) end
write_totals()

-- Whether more messages are ready, and this consumer may lease them at once.
local more = opens_at == math.huge and not set.paused and (not set.exclusive or #taken < max) and anything_is_ready()

local deadline = now + visibility_timeout
local reply = {
  now, deadline, visibility_timeout, -1, more and 1 or 0, set.max_attempts, set.timeout or false, false, false,
  set.exclusive and (set.owner or '') or false, false, false,
}
local FIRST, A_FEW = 12, 32
if #taken > 0 then
  local records = redis.call('HMGET', MESSAGES, unpack(taken))
  local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(taken))
  local known_runs = redis.call('HLEN', RUNS)
  local runs_before = known_runs > 0 and redis.call('HMGET', RUNS, unpack(taken))
  reply[11], reply[12] = options, runs_before
  local queue_timeout = tonumber(set.timeout)
  local first_run = format_run({
    token = token, started = now, attempts = 0, lapses = 0, deliveries = 1, consumer = consumer, settled = '', error = '',
    visibility = visibility_timeout, timeout = queue_timeout,
  })
  local runs, deadlines, own_deadlines, earliest = {}, {}, {}, deadline
  -- Without timeouts of runs all leases have the same deadline.
  local end_as_one = not options and not set.timeout
  local deadline_text = instant_text(deadline)
  for i, id in ipairs(taken) do
    local run = first_run
    if runs_before and runs_before[i] then
      local earlier = parse_run(runs_before[i])
      earlier.token, earlier.started, earlier.consumer = token, now, consumer
      earlier.deliveries = earlier.deliveries + 1
      earlier.visibility, earlier.timeout = visibility_timeout, queue_timeout
      run = format_run(earlier)
    end
    if not end_as_one then
      own_deadlines[i] = deadline_of(timeout_of(options and options[i], queue_timeout), now, deadline)
      earliest = math.min(earliest, own_deadlines[i])
      deadline_text = instant_text(own_deadlines[i])
    end
    local even = 2 * i
    runs[even - 1], runs[even] = id, run
    deadlines[even - 1], deadlines[even] = deadline_text, id
    reply[FIRST + even - 1], reply[FIRST + even] = id, records[i] or ''
  end
  -- Redis stores a small hash or sorted set as a listpack and searches it linearly, which is slow with hundreds of entries. A
  -- long entry converts it to a hash table or skiplist, which it stays when the entry is removed.
  local long = known_runs <= A_FEW and known_runs + #taken > A_FEW and string.rep('-', 65)
  if long then
    redis.call('HSET', RUNS, long, '')
    redis.call('ZADD', LEASED, '0', long)
  end
  redis.call('HSET', RUNS, unpack(runs))
  redis.call('ZADD', LEASED, unpack(deadlines))
  if long then
    redis.call('HDEL', RUNS, long)
    redis.call('ZREM', LEASED, long)
  end
  record_events(taken, function(_, i) return 'started', field_in(records[i], 'n') .. attempt_of(parse_run(runs[2 * i]), 1) end)
  wake_at(earliest)
  record_clock()
  if set.rate_limit then record_leases(set.rate_limit, #taken) end
  if earliest < deadline then reply[8] = own_deadlines end
  if has_rare_keys and redis.call('EXISTS', SIGNALLED) == 1 then reply[9] = redis.call('HMGET', SIGNALLED, unpack(taken)) end
end

-- A consumer that does not call again at once must know when to: maintenance is needed, the rate limit permits leases, or the
-- owner timeout ends. Clean-up may wait one second.
if not more then
  local instant = math.min(next_instant(), opens_at)
  if clean_at then instant = math.min(instant, math.max(clean_at, now + 1000)) end
  reply[4] = pause_until(instant)
end
return reply

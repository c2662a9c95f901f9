#!lua flags=allow-oom
-- lease: maintains the queue, then leases messages from the head of the waiting list, and from groups in their turns: at most
-- as many as the rate limit and an exclusive queue permit, and none while the queue is paused. A message whose lease lapsed before,
-- and which fails at its next lapse, is leased without other messages: if it makes its consumer crash, no other message fails.
-- KEYS      meta messages options waiting prioritized delayed leased runs removed expiring signals signalled groups group_rest turns single_turns
-- ARGV      epoch, maximum number of messages, their maximum bytes (exceeded by a single large message only), token, consumer,
--           owner timeout (ms) of an exclusive queue ('' for the visibility timeout), the visibility timeout (ms; '' for the
--           queue's), a random number in [0, 1) for back-offs
-- Returns   time (ms), deadline (ms), visibility timeout (ms), µs until the earliest known reason to call again (-1:
--           none), 1 if this consumer may lease more at once, 1 if one message is leased alone, 1 if the queue permits leasing
--           ahead,
--           max_attempts of the queue, its timeout (ms) or false, false or for each message its own deadline, false or for
--           each message the data of the signal that released it, false or (in an exclusive queue) the consumer that has
--           access ('': nobody), false or for each message its options, false or for each message its run before this
--           lease; then for each message: id, record
-- Complexity O(messages · log N)

-- USES      meta clock instants run watch retention next_change record_clock
-- Part 1: the plain path, for a queue that uses no rare feature and needs no maintenance now.
if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local max_messages, max_bytes, token, consumer = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local visibility_timeout = tonumber(ARGV[7]) or tonumber(meta.visibility_timeout)
local deadline = now + visibility_timeout
local max_lapses = tonumber(meta.max_lapses)
-- A consumer that leases ahead leases a message some time before it starts the handler. A queue does not permit leasing ahead if the
-- time between lease and start matters: if the queue is paused, exclusive or limited in its rate, has groups or a timeout (which
-- counts from the lease), or if a single lapse fails a message.
local permits_ahead = not (meta.paused or meta.exclusive or meta.rate_limit or meta.grouped or meta.timeout) and max_lapses > 1
local reply = {
  now, deadline, visibility_timeout, -1, 0, 0, permits_ahead and 1 or 0, meta.max_attempts, meta.timeout or false,
  false, false, false, false, false,
}

-- Returns whether any message that is not leased has a run. Each leased message has a run.
local run_count
local function any_run_exists()
  run_count = redis.call('HLEN', RUNS)
  return run_count > redis.call('ZCARD', LEASED)
end

local function must_be_leased_alone(run)
  local lapses = run and tonumber(string.match(run, '^[^\t]*\t%d*\t%d+\t(%d+)\t')) or 0
  return lapses > 0 and lapses + 1 >= max_lapses
end

-- Leases the messages with these ids, which are no longer ready, and adds them to the reply. `earlier_runs` is a list of each
-- message's run before this lease, or false; instead of the list, it is false if no message has a run. `own_deadlines` is a list of
-- each message's deadline, or nil if each message has the deadline `deadline`. Returns the messages' records, and a list that has
-- ids and new runs alternately.
local FIELDS_BEFORE_IDS, SMALL_SIZE = 14, 32
local function lease_ids(ids, earlier_runs, own_deadlines)
  local records = redis.call('HMGET', MESSAGES, unpack(ids))
  local queue_timeout = tonumber(meta.timeout)
  local first_run = format_run({
    token = token, started = now_text, attempts = 0, lapses = 0, deliveries = 1, consumer = consumer, settled = '', error = '',
    visibility = visibility_timeout, timeout = queue_timeout,
  })
  local runs, deadlines = {}, {}
  local deadline_text = instant_text(deadline)
  for i, id in ipairs(ids) do
    local run = first_run
    if earlier_runs and earlier_runs[i] then
      local earlier_run = parse_run(earlier_runs[i])
      earlier_run.token, earlier_run.started, earlier_run.consumer = token, now, consumer
      earlier_run.deliveries = earlier_run.deliveries + 1
      earlier_run.visibility, earlier_run.timeout = visibility_timeout, queue_timeout
      run = format_run(earlier_run)
    end
    if own_deadlines then deadline_text = instant_text(own_deadlines[i]) end
    local field_index = 2 * i
    runs[field_index - 1], runs[field_index] = id, run
    deadlines[field_index - 1], deadlines[field_index] = deadline_text, id
    reply[FIELDS_BEFORE_IDS + field_index - 1], reply[FIELDS_BEFORE_IDS + field_index] = id, records[i] or ''
  end
  reply[14] = earlier_runs
  -- Redis stores a small hash or sorted set as a listpack and searches it linearly, which is slow with hundreds of entries. A long
  -- entry converts a listpack to a hash table or skiplist, which stays so when the long entry is removed.
  local long_entry = run_count <= SMALL_SIZE and run_count + #ids > SMALL_SIZE and string.rep('-', 65)
  if long_entry then
    redis.call('HSET', RUNS, long_entry, '')
    redis.call('ZADD', LEASED, '0', long_entry)
  end
  redis.call('HSET', RUNS, unpack(runs))
  redis.call('ZADD', LEASED, unpack(deadlines))
  if long_entry then
    redis.call('HDEL', RUNS, long_entry)
    redis.call('ZREM', LEASED, long_entry)
  end
  record_clock()
  return records, runs
end

-- `max_size` is the maximum bytes of a message, with room for a small error or small data of a signal beside the record.
local sizes_matter
do
  local ROOM_BESIDE_A_RECORD = 512
  local max_size = (tonumber(meta.largest) or 0) + 2 * (tonumber(meta.largest_extra) or 0) + ROOM_BESIDE_A_RECORD
  sizes_matter = max_size * max_messages > max_bytes
end

do
  local is_plain_path = not (meta.paused or meta.exclusive or meta.rate_limit or meta.timeout or meta.purged_to or meta.mending)
    and (tonumber(meta.clock) or 0) <= now and (tonumber(meta.listened_until) or 0) <= now and not sizes_matter
    and redis.call('EXISTS', OPTIONS, PRIORITIZED, REMOVED, EXPIRING, SIGNALS, SIGNALLED) == 0
  local first_change_at = is_plain_path and math.min(first_instant(LEASED), first_instant(DELAYED)) or now
  if first_change_at > now then
    local ids = redis.call('LPOP', WAITING, max_messages)
    if ids then
      local popped_count = #ids
      local earlier_runs = any_run_exists() and redis.call('HMGET', RUNS, unpack(ids))
      for i, run in ipairs(earlier_runs or {}) do
        if must_be_leased_alone(run) then
          if i == 1 then reply[6] = 1 end
          local put_back_ids = {}
          for _ = math.max(i, 2), popped_count do
            put_back_ids[#put_back_ids + 1] = table.remove(ids)
            table.remove(earlier_runs)
          end
          if #put_back_ids > 0 then redis.call('LPUSH', WAITING, unpack(put_back_ids)) end
          break
        end
      end
      lease_ids(ids, earlier_runs)
      wake_at(deadline)
      if popped_count == max_messages and redis.call('EXISTS', WAITING) == 1 or #ids < popped_count then
        reply[5] = 1
      else
        reply[4] = pause_until(math.min(watch, first_change_at, deadline))
      end
      return reply
    end
    local clean_at = math.min(next_trim(), next_sweep())
    if clean_at > now then
      if watch > now then first_change_at = math.min(first_change_at, watch) end
      reply[4] = pause_until(math.min(first_change_at, math.max(clean_at, now + 1000)))
      return reply
    end
  end
end

do
  -- Leases messages of single groups, if each group that has one of the next turns is single.
  -- Returns the reply; or nil, with nothing changed, if the call needs part 2 of the script.
  local function lease_single_messages_of_groups()
    if not meta.grouped or meta.paused or meta.exclusive or meta.rate_limit or meta.timeout or meta.purged_to or meta.mending
      or meta.regrouping or (tonumber(meta.clock) or 0) > now or (tonumber(meta.listened_until) or 0) > now or sizes_matter
      or redis.call('EXISTS', EXPIRING, SIGNALS, SIGNALLED) > 0 then return nil end
    local next_change_at = math.min(first_instant(LEASED), first_instant(DELAYED))
    if next_change_at <= now or any_run_exists() then return nil end
    -- One more id than needed is read, to know whether another group has a turn after this call.
    local ids, names, taken_places = redis.call('LRANGE', SINGLE_TURNS, 0, max_messages), {}, {}
    if #ids == 0 then return nil end
    local options = redis.call('HMGET', OPTIONS, unpack(ids))
    for i = 1, #ids do
      -- The group is the only option: a tab, the letter g, and the name.
      if not options[i] or string.byte(options[i], 2) ~= 103 or string.find(options[i], '\t', 2, true) then return nil end
      names[i] = string.sub(options[i], 3)
      taken_places[2 * i - 1], taken_places[2 * i] = names[i], '/1'
    end
    -- An id in the list is stale if the group of its message is not stored as the id.
    for i, stored_group in ipairs(redis.call('HMGET', GROUPS, unpack(names))) do
      if stored_group ~= ids[i] then return nil end
    end
    local first_scored = redis.call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')
    local has_more_turns = #ids > max_messages or #first_scored > 0
    if #ids > max_messages then
      ids[#ids], options[#options], taken_places[#taken_places], taken_places[#taken_places - 1] = nil, nil, nil, nil
    end
    -- The turn of a single group is its id.
    if #first_scored > 0 and (#ids < max_messages or tonumber(first_scored[2]) < tonumber(ids[#ids])) then return nil end

    redis.call('LTRIM', SINGLE_TURNS, #ids, -1)
    redis.call('HSET', GROUPS, unpack(taken_places))
    redis.call('HINCRBY', META, 'ready', -#ids)
    reply[13] = options
    lease_ids(ids, false)
    wake_at(deadline)
    if has_more_turns then reply[5] = 1 else reply[4] = pause_until(math.min(watch, next_change_at, deadline)) end
    return reply
  end
  local reply_for_groups = lease_single_messages_of_groups()
  if reply_for_groups then return reply_for_groups end
end

-- USES      fields totals events groups waiting_list trim finish timeout expire clock_step maintain limiter owner
-- Part 2: all calls that part 1 did not answer.
maintain(tonumber(ARGV[8]))

-- Reduces the maximum number of messages of this call to `allowed`. `more_permitted_at` is the instant at which the rate limit or the
-- owner permits more leases, if it is known.
local more_permitted_at = math.huge
local function reduce_max_messages(allowed, instant)
  if allowed < max_messages then max_messages = allowed end
  if allowed <= 0 and instant then more_permitted_at = math.min(more_permitted_at, instant) end
end
if meta.paused then reduce_max_messages(0) end
if meta.exclusive then reduce_max_messages(leases_for_owner(consumer, tonumber(ARGV[6]) or visibility_timeout)) end
if meta.rate_limit and max_messages > 0 then reduce_max_messages(permitted_leases(meta.rate_limit)) end

-- One command checks all keys that most queues do not have, which is faster than a command for each key.
local has_rare_keys = redis.call('EXISTS', PRIORITIZED, REMOVED, EXPIRING, SIGNALLED) > 0

local taken_ids, is_leased_alone, served_names = {}, false, nil
local has_any_run = any_run_exists()
do
  -- The script reads ids before it removes them, so that messages that do not fit into the reply stay in the waiting list.
  local taken_bytes = 0
  local function size_of(id)
    return redis.call('HSTRLEN', MESSAGES, id) + redis.call('HSTRLEN', OPTIONS, id) + redis.call('HSTRLEN', RUNS, id)
      + redis.call('HSTRLEN', SIGNALLED, id)
  end
  local reply_is_full = max_messages <= 0
  local function take_candidates(candidates)
    if #candidates == 0 then return 0 end
    local runs = has_any_run and redis.call('HMGET', RUNS, unpack(candidates))
    if not sizes_matter and not runs and #taken_ids == 0 then
      taken_ids = candidates
      reply_is_full = #taken_ids >= max_messages
      return #taken_ids
    end
    local taken_count = 0
    for i, id in ipairs(candidates) do
      if is_leased_alone then break end
      if runs and must_be_leased_alone(runs[i]) then
        reply_is_full = true
        if #taken_ids > 0 then break end
        is_leased_alone = true
      end
      if sizes_matter then
        taken_bytes = taken_bytes + size_of(id)
        if taken_bytes > max_bytes and #taken_ids > 0 then
          reply_is_full = true
          break
        end
      end
      taken_count = taken_count + 1
      taken_ids[#taken_ids + 1] = id
    end
    reply_is_full = reply_is_full or #taken_ids >= max_messages
    return taken_count
  end

  local function take_prioritized(from, to, limit)
    if reply_is_full or #taken_ids >= limit then return end
    local ids = redis.call('ZRANGE', PRIORITIZED, from, to, 'BYSCORE', 'LIMIT', 0, limit - #taken_ids)
    local taken_count = take_candidates(ids)
    if taken_count > 0 then redis.call('ZREM', PRIORITIZED, unpack(ids, 1, taken_count)) end
  end

  -- The waiting list still has ids of removed messages; each call skips a bounded number of them.
  local function take_waiting(limit)
    local has_removed_ids = has_rare_keys and redis.call('EXISTS', REMOVED) == 1
    for _ = 1, 10 do
      if reply_is_full or #taken_ids >= limit then return end
      local wanted_count = limit - #taken_ids
      local ids = redis.call('LRANGE', WAITING, 0, (has_removed_ids and math.max(wanted_count, 500) or wanted_count) - 1)
      if #ids == 0 then return end
      if not has_removed_ids then
        redis.call('LTRIM', WAITING, take_candidates(ids), -1)
        return
      end
      local passed_count, skipped_ids = 0, {}
      for i, is_removed in ipairs(redis.call('SMISMEMBER', REMOVED, unpack(ids))) do
        if is_removed == 1 then
          skipped_ids[#skipped_ids + 1] = ids[i]
        elseif reply_is_full or #taken_ids >= limit or take_candidates({ ids[i] }) == 0 then
          break
        end
        passed_count = i
      end
      if passed_count > 0 then redis.call('LTRIM', WAITING, passed_count, -1) end
      if #skipped_ids > 0 then redis.call('SREM', REMOVED, unpack(skipped_ids)) end
    end
  end

  -- Takes messages without a group until `limit` messages are taken.
  local has_prioritized = has_rare_keys and redis.call('EXISTS', PRIORITIZED) == 1
  local function take_without_group(limit)
    if has_prioritized then take_prioritized('-inf', '(0', limit) end
    take_waiting(limit)
    if has_prioritized then take_prioritized('(0', '+inf', limit) end
  end

  local function take_one_id(id)
    if sizes_matter or has_any_run then return take_candidates({ id }) == 1 end
    taken_ids[#taken_ids + 1] = id
    reply_is_full = #taken_ids >= max_messages
    return true
  end

  local has_expiring = has_rare_keys and redis.call('EXISTS', EXPIRING) == 1
  local expired_count = 0
  local function is_expired(id)
    local expires_at = has_expiring and tonumber(redis.call('ZSCORE', EXPIRING, id))
    return expires_at and expires_at <= now
  end

  -- Fails an expired message instead of leasing it, at most `MAX_MESSAGES` messages per call of the script.
  local function fail_expired_id(id)
    redis.call('ZREM', EXPIRING, id)
    finish_expired(id)
    expired_count = expired_count + 1
    reply_is_full = reply_is_full or expired_count >= MAX_MESSAGES
  end

  -- Uses a turn of the messages without a group: takes one such message that has not expired. Returns whether a message was taken.
  local function take_one_without_group()
    local count_before = #taken_ids
    repeat
      take_without_group(count_before + 1)
      if #taken_ids == count_before then return false end
      local has_expired = is_expired(taken_ids[count_before + 1])
      if has_expired then fail_expired_id(table.remove(taken_ids)) end
    until not has_expired
    return true
  end

  -- Makes the next ready message of a group its first message. The function reads several messages at once, because the group may
  -- have more turns in this call.
  local consumed_members = {}
  local function advance_group(group, likely_turns)
    if group.others == 0 then
      group.head = nil
      return
    end
    if not group.next_ones or group.consumed == #group.next_ones then
      local skipped_count = (group.skipped or 0) + (group.consumed or 0)
      group.next_ones, group.skipped, group.consumed = groups.rest_of(group.name, skipped_count, likely_turns), skipped_count, 0
    end
    group.consumed = group.consumed + 1
    local rest_member = group.next_ones[group.consumed]
    consumed_members[#consumed_members + 1] = rest_member
    group.head = rest_member and string.sub(rest_member, -22)
    group.others = rest_member and group.others - 1 or 0
  end

  -- Uses a turn of a group: takes the group's first message that has not expired. Returns whether a message was taken.
  local function take_from_group(group, likely_turns)
    while group.head and not reply_is_full do
      local id = string.sub(group.head, 9)
      if is_expired(id) then
        fail_expired_id(id)
        groups.tally({ redis.call('HGET', OPTIONS, id) }, -1)
      elseif not take_one_id(id) then
        return false
      else
        group.places = group.places + 1
        advance_group(group, likely_turns)
        return true
      end
      advance_group(group, likely_turns)
    end
    return false
  end

  local function take_turns()
    if reply_is_full then return end
    local groups_in_turn, are_all_turns, remove_single_turns = groups.next_turns(max_messages)
    local initial_turn_count, turn_count = #groups_in_turn, #groups_in_turn
    local group_names = {}
    for _, name in ipairs(groups_in_turn) do
      if name ~= '' then group_names[#group_names + 1] = name end
    end
    groups.load(group_names)
    local limit, likely_turns = groups.max_places(), math.ceil(max_messages / math.max(1, turn_count))
    local next_turn = 1
    -- If another member may have a turn, that turn comes before the second turns of these members.
    local last_turn_of_call = are_all_turns and math.huge or initial_turn_count
    while next_turn <= math.min(turn_count, last_turn_of_call) and not reply_is_full do
      local name = groups_in_turn[next_turn]
      local gets_another_turn, had_turn
      if name == '' then
        had_turn = take_one_without_group()
        -- If only messages without a group are left, the call takes them without further turns.
        if had_turn and are_all_turns and next_turn == turn_count then take_without_group(max_messages) end
        gets_another_turn = had_turn and groups.is_plain_ready()
      else
        local group = groups.changed(name)
        had_turn = group.places < limit and take_from_group(group, math.min(likely_turns, math.max(1, limit - group.places)))
        gets_another_turn = had_turn and group.head and group.places < limit
        group.is_served = group.is_served or had_turn
      end
      if gets_another_turn then
        turn_count = turn_count + 1
        groups_in_turn[turn_count] = name
      end
      -- A group whose message did not fit into the reply keeps its turn.
      if had_turn or not reply_is_full then next_turn = next_turn + 1 end
    end
    if #consumed_members > 0 then redis.call('ZREM', GROUP_REST, unpack(consumed_members)) end
    remove_single_turns(next_turn)
    served_names = {}
    for i = math.max(next_turn, initial_turn_count + 1), turn_count do
      served_names[#served_names + 1], served_names[groups_in_turn[i]] = groups_in_turn[i], true
    end
  end

  if meta.grouped then take_turns() else take_without_group(max_messages) end
end

-- No message is leased after its ttl, even when too many messages expired for one call of `maintain`.
local function fail_expired_ids()
  if #taken_ids == 0 or not has_rare_keys or redis.call('EXISTS', EXPIRING) == 0 then return end
  local expiry_instants = redis.call('ZMSCORE', EXPIRING, unpack(taken_ids))
  local unexpired_ids = {}
  for i, id in ipairs(taken_ids) do
    if expiry_instants[i] and tonumber(expiry_instants[i]) <= now then finish_expired(id) else unexpired_ids[#unexpired_ids + 1] = id end
  end
  redis.call('ZREM', EXPIRING, unpack(taken_ids))
  taken_ids = unexpired_ids
end
fail_expired_ids()
write_finished()
groups.write(served_names)
local clean_at
if #taken_ids == 0 then clean_at = clean() elseif totals.failed then trim_failed(200) end
write_totals()

-- `more_is_ready` says whether more messages are ready and this consumer may lease them at once.
local more_is_ready = more_permitted_at == math.huge and not meta.paused and (not meta.exclusive or #taken_ids < max_messages)
  and anything_is_ready()

if more_is_ready then reply[5] = 1 end
if is_leased_alone and #taken_ids > 0 then reply[6] = 1 end
reply[12] = meta.exclusive and (meta.owner or '') or false

if #taken_ids > 0 then
  local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(taken_ids))
  reply[13] = options
  -- If neither the queue nor a message has a timeout, all leases have the same deadline.
  local own_deadlines
  local earliest_deadline = deadline
  if options or meta.timeout then
    own_deadlines = {}
    for i in ipairs(taken_ids) do
      own_deadlines[i] = deadline_of(timeout_of(options and options[i], tonumber(meta.timeout)), now, deadline)
      earliest_deadline = math.min(earliest_deadline, own_deadlines[i])
    end
  end
  local records, runs = lease_ids(taken_ids, has_any_run and redis.call('HMGET', RUNS, unpack(taken_ids)), own_deadlines)
  record_events(taken_ids, function(_, i) return 'started', field_in(records[i], 'n') .. attempt_of(parse_run(runs[2 * i]), 1) end)
  wake_at(earliest_deadline)
  if meta.rate_limit then record_leases(meta.rate_limit, #taken_ids) end
  if earliest_deadline < deadline then reply[10] = own_deadlines end
  if has_rare_keys and redis.call('EXISTS', SIGNALLED) == 1 then reply[11] = redis.call('HMGET', SIGNALLED, unpack(taken_ids)) end
end

-- A consumer that does not call again at once must know when to call: when maintenance is needed, the rate limit permits leases,
-- or the owner timeout ends. For clean-up, the consumer calls after one second at the earliest.
if not more_is_ready then
  local next_call_at = math.min(next_instant(), more_permitted_at)
  if clean_at then next_call_at = math.min(next_call_at, math.max(clean_at, now + 1000)) end
  reply[4] = pause_until(next_call_at)
elseif #taken_ids == 0 then
  -- This call found only ids of messages that are no longer ready, of which it skips a bounded number. The next call continues.
  reply[4] = 0
end
return reply

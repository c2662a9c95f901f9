#!lua
-- enqueue: stores messages in the order given, all or none; or, for independent messages, as many as the queue has room for.
-- KEYS      meta seq messages options waiting prioritized delayed leased removed aliases taken held expiring sticky signalled dedup dedup_until groups turns single_turns
-- ARGV      epoch, an idempotency key ('' for none), the request's fingerprint, which messages are refused if not all fit within
--           max_length ('all' or the 'rest'), and '+' after that word if each message has terms; then for each message its record
--           without the instant of creation. Before the record of a message that is not due now or has options: its terms, which
--           are its due time ('' now, '+1500' ms from now, or an instant in ms) and its options. Without '+', '' before the terms
-- Returns   the server's time in ms, max_attempts of the queue, then for each message its id.
--           '=', id, tab, state: the message existed already, by the producer's own id or the idempotency key (state '': it is
--           no longer kept; with an own id, the id is then all zeros). '*', id, tab, data: a sticky signal with this data released
--           the message at once. '!', max_length: the message was refused as one of the 'rest'. '!': it was refused because it
--           has a group and the queue is exclusive.
--           Or the errors EPOCH; FULL: beyond max_length; EXCLUSIVE: a message has a group and the queue is exclusive; REUSED:
--           the key came with another request
-- Complexity O(messages), O(log N) for each delayed, prioritized, held or expiring one

-- USES      meta clock instants wake watch
-- Part 1: the plain path, for messages that have no options, without an idempotency key and `max_length`, while no client listens.
if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local idempotency_key, fingerprint = ARGV[2], ARGV[3]
local refuses_all, all_have_terms = ARGV[4] == 'all' or ARGV[4] == 'all+', ARGV[4] == 'all+' or ARGV[4] == 'rest+'
local reply = { now, meta.max_attempts }

-- The id of a message counts units of 10 µs since 2020. So a new id is larger than any earlier id even after Redis was emptied,
-- unless more than 100,000 messages a second were posted before, or Redis's clock has stepped back.
local last_id = tonumber(redis.call('GET', SEQ)) or 0
local next_id = math.max(last_id + 1, math.floor(now_us / 10) - 157783680000000)

-- An id is formatted in two halves, because small integers are formatted faster. The first half is the same for most ids of a
-- call.
local format_text = string.format
local high_digits, low_digits = math.floor(next_id / 10000000), next_id % 10000000
local high_text = format_text('%07d', high_digits)
local function take_id()
  local id = high_text .. format_text('%07d', low_digits)
  next_id, low_digits = next_id + 1, low_digits + 1
  if low_digits == 10000000 then
    high_digits, low_digits = high_digits + 1, 0
    high_text = format_text('%07d', high_digits)
  end
  return id
end

-- Returns the instant (ms) at which a message is due: '' is now, '+1500' is 1,500 ms from now, any other number is the instant.
local function due_at(when)
  if when == '' then return now end
  return tonumber(when) + (string.byte(when) == 43 and now or 0)
end

-- Returns the record as it is stored: with the instant of creation, and the due time if that is later.
local function stored_record(record, due)
  return (due > now and (now_text .. '\td' .. instant_text(due)) or now_text) .. record
end

-- Returns whether part 1 of the script can do this call: no message of the call has options, and nothing else needs part 2.
local function are_plain_messages()
  if idempotency_key ~= '' or meta.max_length or meta.grouped or (tonumber(meta.listened_until) or 0) > now then return false end
  local argument_index, argument_count, message_count = 5, #ARGV, 0
  while argument_index <= argument_count do
    if all_have_terms or ARGV[argument_index] == '' then
      if not all_have_terms then argument_index = argument_index + 1 end
      if string.find(ARGV[argument_index], '\t', 1, true) then return false end
      argument_index = argument_index + 1
    end
    argument_index, message_count = argument_index + 1, message_count + 1
  end
  return message_count <= MAX_MESSAGES
end

local function store_plain_messages()
  local records, ready_ids, delayed_entries, message_count = {}, {}, {}, 0
  local largest_bytes, earliest_due = tonumber(meta.largest) or 0, math.huge
  local largest_before = largest_bytes
  local argument_index, argument_count = 5, #ARGV
  while argument_index <= argument_count do
    local due_instant = now
    if all_have_terms or ARGV[argument_index] == '' then
      if not all_have_terms then argument_index = argument_index + 1 end
      due_instant = due_at(ARGV[argument_index])
      argument_index = argument_index + 1
    end
    local id, record = take_id(), stored_record(ARGV[argument_index], due_instant)
    argument_index, message_count = argument_index + 1, message_count + 1
    reply[2 + message_count] = id
    records[2 * message_count - 1], records[2 * message_count] = id, record
    if #record > largest_bytes then largest_bytes = #record end
    if due_instant > now then
      delayed_entries[#delayed_entries + 1] = instant_text(due_instant)
      delayed_entries[#delayed_entries + 1] = id
      if due_instant < earliest_due then earliest_due = due_instant end
    else
      ready_ids[#ready_ids + 1] = id
    end
  end
  redis.call('SET', SEQ, reply[2 + message_count])
  redis.call('HSET', MESSAGES, unpack(records))
  if largest_bytes > largest_before then redis.call('HSET', META, 'largest', largest_bytes) end
  redis.call('HINCRBY', META, 'total:enqueued', message_count)
  if #delayed_entries > 0 then
    redis.call('ZADD', DELAYED, unpack(delayed_entries))
    wake_at(earliest_due)
  end
  if #ready_ids > 0 then
    local list_length = redis.call('RPUSH', WAITING, unpack(ready_ids))
    -- A wake-up is needed only if no message was ready before. Removed messages whose ids are still in the waiting list do not count as
    -- ready.
    if list_length == #ready_ids or list_length - redis.call('SCARD', REMOVED) == #ready_ids then wake_now() end
  end
end

if are_plain_messages() then
  store_plain_messages()
  return reply
end

-- Returns whether any group, or the messages without a group, have a turn. If the first id of `single_turns` is stale, the function
-- may return false although there is a turn; then a wake-up is not necessary, but does no harm.
local function has_turn()
  local first_id = redis.call('LINDEX', SINGLE_TURNS, 0)
  local name = first_id and string.match(redis.call('HGET', OPTIONS, first_id) or '', '\tg([^\t]*)')
  return name and redis.call('HGET', GROUPS, name) == first_id or redis.call('EXISTS', TURNS) == 1
end

-- Stores the messages of this call if each message has a group as its only option and no other message of its group is unfinished.
-- Returns whether the messages were stored; a call whose messages were not stored needs part 2 of the script.
local function store_first_messages_of_groups()
  if idempotency_key ~= '' or meta.max_length or meta.exclusive or meta.purged_to or (tonumber(meta.listened_until) or 0) > now
    or not all_have_terms or #ARGV > 4 + 2 * MAX_MESSAGES then return false end
  local group_names, seen_names, message_count = {}, {}, 0
  for argument_index = 5, #ARGV, 2 do
    -- The message is due now, and the group is its only option: a tab, the letter g, and the name.
    local terms = ARGV[argument_index]
    local first_byte, second_byte = string.byte(terms, 1, 2)
    if first_byte ~= 9 or second_byte ~= 103 or string.find(terms, '\t', 2, true) then return false end
    local name = string.sub(terms, 3)
    if seen_names[name] then return false end
    message_count = message_count + 1
    group_names[message_count], seen_names[name] = name, true
  end
  -- A turn of `single_turns` must be the last turn.
  if next_id <= (tonumber(meta.turn) or 0) then return false end
  -- When a queue gets its first message with a group, its ready messages without a group must get a turn, which part 2 of the script does.
  if not meta.grouped and redis.call('EXISTS', WAITING, PRIORITIZED) > 0 then return false end
  for _, stored in ipairs(redis.call('HMGET', GROUPS, unpack(group_names))) do
    if stored then return false end
  end

  local ids, records, options, group_entries = {}, {}, {}, {}
  local largest_size = tonumber(meta.largest) or 0
  for i, name in ipairs(group_names) do
    local field_index = 2 * i
    local id, option_text, record = take_id(), ARGV[field_index + 3], stored_record(ARGV[field_index + 4], now)
    reply[2 + i], ids[i] = id, id
    records[field_index - 1], records[field_index] = id, record
    options[field_index - 1], options[field_index] = id, option_text
    group_entries[field_index - 1], group_entries[field_index] = name, id
    if #record + #option_text > largest_size then largest_size = #record + #option_text end
  end
  local needs_wake_up = not has_turn()
  redis.call('SET', SEQ, ids[message_count])
  redis.call('HSET', MESSAGES, unpack(records))
  redis.call('HSET', OPTIONS, unpack(options))
  redis.call('HSET', GROUPS, unpack(group_entries))
  redis.call('RPUSH', SINGLE_TURNS, unpack(ids))
  redis.call('HSET', META, 'layout', GROUPED_LAYOUT, 'largest', largest_size, 'turn', ids[message_count],
    'grouped', format_text('%d', (tonumber(meta.grouped) or 0) + message_count),
    'ready', format_text('%d', (tonumber(meta.ready) or 0) + message_count))
  redis.call('HINCRBY', META, 'total:enqueued', message_count)
  if needs_wake_up then wake_now() end
  return true
end

if store_first_messages_of_groups() then return reply end

-- USES      fields events extra groups waiting_list state sticky
-- Part 2: all calls that part 1 did not answer.

-- Returns the reply for a message that exists already. `state` is given only for a message of this call, which has no record yet.
local function existing_reply(id, state)
  return '=' .. id .. '\t' .. (state or state_of(id, redis.call('HGET', OPTIONS, id)) or '')
end

-- An idempotency key is stored with the ids of its request's messages. Each sequence of consecutive ids is written as its first id, `+`,
-- and how many ids follow the first one; a comma separates two sequences.
if idempotency_key ~= '' then
  local known_request = redis.call('HGET', DEDUP, idempotency_key)
  local known_until, known_fingerprint, ids = string.match(known_request or '', '^(%d+)\t([^\t]*)\t(.*)$')
  if known_until and tonumber(known_until) > now then
    if known_fingerprint ~= fingerprint then return redis.error_reply('REUSED the key came with another request') end
    for first_id, following_count in string.gmatch(ids, '(%d+)%+(%d+)') do
      for n = 0, tonumber(following_count) do
        reply[#reply + 1] = existing_reply(string.format('%014d', tonumber(first_id) + n))
      end
    end
    return reply
  end
end

local records, all_options, alias_entries, new_ids, new_states = {}, {}, {}, {}, {}
local ready_message_ids, ready_options, delayed_entries, held_entries, expiry_entries, signal_entries = {}, {}, {}, {}, {}, {}
local hold_keys = {}
local earliest_due_instant, earliest_expiry = math.huge, math.huge
local largest_size, largest_signal = 0, 0
local stored_count, ready_count, delayed_count = 0, 0, 0

local function add_to_state(id, due, options)
  local hold_key = field(options, 'k')
  local is_released = hold_key and is_sticky(hold_key)
  if hold_key and not is_released then
    hold_keys[id] = hold_key
    held_entries[#held_entries + 1] = 0
    held_entries[#held_entries + 1] = hold_key .. '\t' .. id .. (due > now and '\t' .. due or '')
    return id, 'held'
  end
  local state = due > now and 'delayed' or 'waiting'
  if due > now then
    delayed_count = delayed_count + 1
    delayed_entries[2 * delayed_count - 1], delayed_entries[2 * delayed_count] = instant_text(due), id
    if due < earliest_due_instant then earliest_due_instant = due end
  else
    ready_count = ready_count + 1
    ready_message_ids[ready_count], ready_options[ready_count] = id, options
  end
  if not is_released then return id, state end
  local signal_data = redis.call('HGET', STICKY, hold_key) or ''
  if signal_data ~= '' then
    signal_entries[#signal_entries + 1] = id
    signal_entries[#signal_entries + 1] = signal_data
    largest_signal = math.max(largest_signal, #signal_data)
  end
  return '*' .. id .. '\t' .. signal_data, state
end

local function record_enqueued()
  local ids = {}
  for i = 1, stored_count do ids[i] = records[2 * i - 1] end
  record_events(ids, function(id, i)
    local record, hold = records[2 * i], hold_keys[id]
    return 'enqueued', field_in(record, 'n') .. field_in(record, 'd') .. field_in(record, 's') .. (hold and '\tk' .. hold or '')
  end)
end

-- Returns the id of the message with a producer's own id, NO_LONGER_KEPT if that message was forgotten, nil if the own id is free.
local NO_LONGER_KEPT = '00000000000000'
local has_taken_id
local function id_of(own_id)
  local id = redis.call('HGET', ALIASES, own_id)
  if id and not (meta.purged_to and not state_of(id, redis.call('HGET', OPTIONS, id))) then return id end
  if has_taken_id == nil then has_taken_id = redis.call('EXISTS', TAKEN) == 1 end
  local valid_until = has_taken_id and tonumber(redis.call('ZSCORE', TAKEN, own_id))
  return valid_until and valid_until > now and NO_LONGER_KEPT or nil
end

-- The number of further messages that the queue accepts.
local free_room = math.huge
if meta.max_length then
  free_room = tonumber(meta.max_length) - redis.call('LLEN', WAITING) + redis.call('SCARD', REMOVED)
    - redis.call('ZCARD', PRIORITIZED) - redis.call('ZCARD', DELAYED) - redis.call('ZCARD', LEASED) - redis.call('ZCARD', HELD)
    - groups.ready
end

local argument_index, argument_count, answered_count = 5, #ARGV, #reply
while argument_index <= argument_count do
  local due_text, options = '', ''
  if all_have_terms or ARGV[argument_index] == '' then
    if not all_have_terms then argument_index = argument_index + 1 end
    due_text, options = string.match(ARGV[argument_index], '^([^\t]*)(.*)$')
    argument_index = argument_index + 1
  end
  local record = ARGV[argument_index]
  argument_index = argument_index + 1
  answered_count = answered_count + 1
  local own_id = field(options, 'i')
  local existing_id = own_id and (new_ids[own_id] or id_of(own_id))
  if existing_id then
    reply[answered_count] = existing_reply(existing_id, new_states[own_id])
  elseif meta.exclusive and groups.key_of(options) then
    if refuses_all then return redis.error_reply('EXCLUSIVE a message has a group, and the queue is exclusive') end
    reply[answered_count] = '!'
  elseif stored_count + 1 > free_room then
    if refuses_all then return redis.error_reply('FULL ' .. meta.max_length) end
    reply[answered_count] = '!' .. meta.max_length
  else
    local id = take_id()
    local due = due_at(due_text)
    record = stored_record(record, due)
    stored_count = stored_count + 1
    records[2 * stored_count - 1], records[2 * stored_count] = id, record
    if options ~= '' then
      local ttl = tonumber(field(options, 'l'))
      if ttl then
        -- The stored option is the instant at which the message expires, not its ttl.
        options = string.gsub(options, '\tl%d+', '\te' .. now + ttl)
        expiry_entries[#expiry_entries + 1] = now + ttl
        expiry_entries[#expiry_entries + 1] = id
        earliest_expiry = math.min(earliest_expiry, now + ttl)
      end
      all_options[#all_options + 1] = id
      all_options[#all_options + 1] = options
    end
    if #record + #options > largest_size then largest_size = #record + #options end
    if own_id then
      new_ids[own_id] = id
      alias_entries[#alias_entries + 1] = own_id
      alias_entries[#alias_entries + 1] = id
    end
    local reply_text, state = add_to_state(id, due, options)
    reply[answered_count] = reply_text
    if own_id then new_states[own_id] = state end
  end
end

if answered_count > 2 + MAX_MESSAGES then return redis.error_reply('ERR at most ' .. MAX_MESSAGES .. ' messages a call') end

-- The script makes all its checks before its first write, so that a refused call changes nothing.
if idempotency_key ~= '' then
  local ids, first_id, previous_id = {}, nil, nil
  for i = 3, #reply do
    local id = tonumber((string.match(reply[i], '%d+')))
    if previous_id and id == previous_id + 1 then
      previous_id = id
    else
      if first_id then ids[#ids + 1] = string.format('%014d+%d', first_id, previous_id - first_id) end
      first_id, previous_id = id, id
    end
  end
  ids[#ids + 1] = string.format('%014d+%d', first_id, previous_id - first_id)
  local valid_until = now + meta.idempotency_window
  redis.call('HSET', DEDUP, idempotency_key, valid_until .. '\t' .. fingerprint .. '\t' .. table.concat(ids, ','))
  redis.call('ZADD', DEDUP_UNTIL, valid_until, idempotency_key)
  wake_at(valid_until)
end
if stored_count == 0 then return reply end
redis.call('SET', SEQ, string.format('%014d', next_id - 1))
redis.call('HSET', MESSAGES, unpack(records))
if #all_options > 0 then redis.call('HSET', OPTIONS, unpack(all_options)) end
if #alias_entries > 0 then redis.call('HSET', ALIASES, unpack(alias_entries)) end
if #signal_entries > 0 then
  redis.call('HSET', SIGNALLED, unpack(signal_entries))
  record_extra(largest_signal)
end
if largest_size > (tonumber(meta.largest) or 0) then redis.call('HSET', META, 'largest', largest_size) end
redis.call('HINCRBY', META, 'total:enqueued', stored_count)
if is_listened then record_enqueued() end
if #held_entries > 0 then redis.call('ZADD', HELD, unpack(held_entries)) end
if #expiry_entries > 0 then
  redis.call('ZADD', EXPIRING, unpack(expiry_entries))
  wake_at(earliest_expiry)
end
if #delayed_entries > 0 then
  redis.call('ZADD', DELAYED, unpack(delayed_entries))
  wake_at(earliest_due_instant)
end
groups.tally(all_options, 1)
local needs_wake_up = #ready_message_ids > 0 and push_tail(ready_message_ids, false, ready_options)
if groups.write() or needs_wake_up then wake_now() end
return reply

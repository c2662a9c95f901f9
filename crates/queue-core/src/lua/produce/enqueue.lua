#!lua
-- enqueue: stores messages in the order given, all or none; or, for independent messages, as many as the queue has room for.
-- KEYS      meta seq messages options waiting prioritized delayed leased removed aliases taken held expiring sticky signalled dedup dedup_until groups turns
-- ARGV      epoch, an idempotency key ('' for none), the request's fingerprint, which messages are refused if not all fit within
--           max_length ('all' or the 'rest'); then for each message its record without the instant of creation. Before the
--           record of a message that is not due now or has options: '', its due time ('' now, '+1500' ms from now, or an
--           instant in ms), its options
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
local key, fingerprint, refused = ARGV[2], ARGV[3], ARGV[4]
local reply = { now, meta.max_attempts }

-- An id counts units of 10 µs since 2020. So a new id is larger than any earlier id even after Redis was emptied, unless more than
-- 100,000 messages a second were posted before, or Redis's clock has stepped back.
local last_id = tonumber(redis.call('GET', SEQ)) or 0
local next_id = math.max(last_id + 1, math.floor(now_us / 10) - 157783680000000)

-- An id is formatted in two halves, because small integers are formatted faster. The first half is the same for most ids of a
-- call.
local format = string.format
local high_digits, low_digits = math.floor(next_id / 10000000), next_id % 10000000
local high_text = format('%07d', high_digits)
local function take_id()
  local id = high_text .. format('%07d', low_digits)
  next_id, low_digits = next_id + 1, low_digits + 1
  if low_digits == 10000000 then
    high_digits, low_digits = high_digits + 1, 0
    high_text = format('%07d', high_digits)
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

-- Returns whether part 1 can do this call: no message of the call has options, and nothing else needs part 2.
local function are_plain_messages()
  if key ~= '' or meta.max_length or meta.grouped or (tonumber(meta.listened_until) or 0) > now then return false end
  local position, count = 5, 0
  while position <= #ARGV do
    if ARGV[position] == '' then
      if ARGV[position + 2] ~= '' then return false end
      position = position + 3
    end
    position, count = position + 1, count + 1
  end
  return count <= MAX_MESSAGES
end

local function store_plain_messages()
  local records, ready_ids, delayed, count = {}, {}, {}, 0
  local largest_bytes, earliest_due = tonumber(meta.largest) or 0, math.huge
  local largest_before = largest_bytes
  local position = 5
  while position <= #ARGV do
    local due_instant = now
    if ARGV[position] == '' then
      due_instant = due_at(ARGV[position + 1])
      position = position + 3
    end
    local id, record = take_id(), stored_record(ARGV[position], due_instant)
    position, count = position + 1, count + 1
    reply[2 + count] = id
    records[2 * count - 1], records[2 * count] = id, record
    if #record > largest_bytes then largest_bytes = #record end
    if due_instant > now then
      delayed[#delayed + 1] = instant_text(due_instant)
      delayed[#delayed + 1] = id
      if due_instant < earliest_due then earliest_due = due_instant end
    else
      ready_ids[#ready_ids + 1] = id
    end
  end
  redis.call('SET', SEQ, reply[2 + count])
  redis.call('HSET', MESSAGES, unpack(records))
  if largest_bytes > largest_before then redis.call('HSET', META, 'largest', largest_bytes) end
  redis.call('HINCRBY', META, 'total:enqueued', count)
  if #delayed > 0 then
    redis.call('ZADD', DELAYED, unpack(delayed))
    wake_at(earliest_due)
  end
  if #ready_ids > 0 then
    local length = redis.call('RPUSH', WAITING, unpack(ready_ids))
    -- A wake-up is needed only if no message was ready before. Removed messages whose ids are still in the list do not count.
    if length == #ready_ids or length - redis.call('SCARD', REMOVED) == #ready_ids then wake_now() end
  end
end

if are_plain_messages() then
  store_plain_messages()
  return reply
end

-- Stores the messages of this call if each message has a group as its only option and no other message of its group is unfinished.
-- Returns whether the messages were stored; a call whose messages were not stored needs part 2.
local function store_first_ones_of_groups()
  if key ~= '' or meta.max_length or meta.exclusive or meta.purged_to or (tonumber(meta.listened_until) or 0) > now
    or #ARGV > 4 + 4 * MAX_MESSAGES then return false end
  local names, seen, count = {}, {}, 0
  for position = 5, #ARGV, 4 do
    local options = ARGV[position + 2] or ''
    -- The group is the only option: a tab, the letter g, and the name.
    if ARGV[position] ~= '' or ARGV[position + 1] ~= '' or string.byte(options, 2) ~= 103 or string.find(options, '\t', 2, true) then
      return false
    end
    local name = string.sub(options, 3)
    if seen[name] then return false end
    count = count + 1
    names[count], seen[name] = name, true
  end
  -- The first message with a group gives the ready messages without a group a turn, which part 2 does.
  if not meta.grouped and redis.call('EXISTS', WAITING, PRIORITIZED) > 0 then return false end
  for _, stored in ipairs(redis.call('HMGET', GROUPS, unpack(names))) do
    if stored then return false end
  end

  local records, options, positions, turns = {}, {}, {}, {}
  local largest, turn = tonumber(meta.largest) or 0, format('%d', (tonumber(meta.turn) or 0) + 1)
  for i, name in ipairs(names) do
    local id, option, record = take_id(), ARGV[4 * i + 3], stored_record(ARGV[4 * i + 4], now)
    local field_index = 2 * i
    reply[2 + i] = id
    records[field_index - 1], records[field_index] = id, record
    options[field_index - 1], options[field_index] = id, option
    positions[field_index - 1], positions[field_index] = name, id
    turns[field_index - 1], turns[field_index] = turn, name
    if #record + #option > largest then largest = #record + #option end
  end
  redis.call('SET', SEQ, reply[2 + count])
  redis.call('HSET', MESSAGES, unpack(records))
  redis.call('HSET', OPTIONS, unpack(options))
  redis.call('HSET', GROUPS, unpack(positions))
  local had_turns = redis.call('EXISTS', TURNS) == 1
  redis.call('ZADD', TURNS, unpack(turns))
  redis.call('HSET', META, 'layout', GROUPED_LAYOUT, 'largest', largest, 'turn', turn,
    'grouped', format('%d', (tonumber(meta.grouped) or 0) + count), 'ready', format('%d', (tonumber(meta.ready) or 0) + count))
  redis.call('HINCRBY', META, 'total:enqueued', count)
  if not had_turns then wake_now() end
  return true
end

if store_first_ones_of_groups() then return reply end

-- USES      fields events extra groups waiting_list state sticky
-- Part 2: all calls that part 1 did not answer.

-- Returns the reply for a message that exists already. `state` is given only for a message of this call, which has no record yet.
local function existing_reply(id, state)
  return '=' .. id .. '\t' .. (state or state_of(id, redis.call('HGET', OPTIONS, id)) or '')
end

-- An idempotency key stands for ids. Each sequence of consecutive ids is written as its first id, `+`, and how many ids follow
-- the first one; a comma separates two sequences.
if key ~= '' then
  local known_request = redis.call('HGET', DEDUP, key)
  local known_until, known_fingerprint, ids = string.match(known_request or '', '^(%d+)\t([^\t]*)\t(.*)$')
  if known_until and tonumber(known_until) > now then
    if known_fingerprint ~= fingerprint then return redis.error_reply('REUSED the key came with another request') end
    for first, more in string.gmatch(ids, '(%d+)%+(%d+)') do
      for n = 0, tonumber(more) do
        reply[#reply + 1] = existing_reply(string.format('%014d', tonumber(first) + n))
      end
    end
    return reply
  end
end

local records, all_options, aliases, new_ids, new_states = {}, {}, {}, {}, {}
local ready, ready_options, delayed, held, expiring, signalled = {}, {}, {}, {}, {}, {}
local hold_keys = {}
local earliest, earliest_expiry = math.huge, math.huge
local largest, largest_signal = 0, 0
local stored_count, readies, delays = 0, 0, 0

local function add_to_state(id, due, options)
  local hold_key = field(options, 'k')
  local is_released = hold_key and is_sticky(hold_key)
  if hold_key and not is_released then
    hold_keys[id] = hold_key
    held[#held + 1] = 0
    held[#held + 1] = hold_key .. '\t' .. id .. (due > now and '\t' .. due or '')
    return id, 'held'
  end
  local state = due > now and 'delayed' or 'waiting'
  if due > now then
    delays = delays + 1
    delayed[2 * delays - 1], delayed[2 * delays] = instant_text(due), id
    if due < earliest then earliest = due end
  else
    readies = readies + 1
    ready[readies], ready_options[readies] = id, options
  end
  if not is_released then return id, state end
  local signal_data = redis.call('HGET', STICKY, hold_key) or ''
  if signal_data ~= '' then
    signalled[#signalled + 1] = id
    signalled[#signalled + 1] = signal_data
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
  local until_when = has_taken_id and tonumber(redis.call('ZSCORE', TAKEN, own_id))
  return until_when and until_when > now and NO_LONGER_KEPT or nil
end

-- The number of further messages that the queue accepts.
local free_room = math.huge
if meta.max_length then
  free_room = tonumber(meta.max_length) - redis.call('LLEN', WAITING) + redis.call('SCARD', REMOVED)
    - redis.call('ZCARD', PRIORITIZED) - redis.call('ZCARD', DELAYED) - redis.call('ZCARD', LEASED) - redis.call('ZCARD', HELD)
    - groups.ready
end

local position, last, answered = 5, #ARGV, #reply
while position <= last do
  local when_text, options, record = '', '', ARGV[position]
  if record == '' then
    when_text, options, record = ARGV[position + 1], ARGV[position + 2], ARGV[position + 3]
    position = position + 3
  end
  position = position + 1
  answered = answered + 1
  local own_id = field(options, 'i')
  local existing_id = own_id and (new_ids[own_id] or id_of(own_id))
  if existing_id then
    reply[answered] = existing_reply(existing_id, new_states[own_id])
  elseif meta.exclusive and groups.key_of(options) then
    if refused == 'all' then return redis.error_reply('EXCLUSIVE a message has a group, and the queue is exclusive') end
    reply[answered] = '!'
  elseif stored_count + 1 > free_room then
    if refused == 'all' then return redis.error_reply('FULL ' .. meta.max_length) end
    reply[answered] = '!' .. meta.max_length
  else
    local id = take_id()
    local due = due_at(when_text)
    record = stored_record(record, due)
    stored_count = stored_count + 1
    records[2 * stored_count - 1], records[2 * stored_count] = id, record
    if options ~= '' then
      local ttl = tonumber(field(options, 'l'))
      if ttl then
        -- The stored option is the instant of expiry, not the ttl.
        options = string.gsub(options, '\tl%d+', '\te' .. now + ttl)
        expiring[#expiring + 1] = now + ttl
        expiring[#expiring + 1] = id
        earliest_expiry = math.min(earliest_expiry, now + ttl)
      end
      all_options[#all_options + 1] = id
      all_options[#all_options + 1] = options
    end
    if #record + #options > largest then largest = #record + #options end
    if own_id then
      new_ids[own_id] = id
      aliases[#aliases + 1] = own_id
      aliases[#aliases + 1] = id
    end
    local answer, state = add_to_state(id, due, options)
    reply[answered] = answer
    if own_id then new_states[own_id] = state end
  end
end

if answered > 2 + MAX_MESSAGES then return redis.error_reply('ERR at most ' .. MAX_MESSAGES .. ' messages a call') end

-- The script makes all its checks before its first write, so that a refused call changes nothing.
if key ~= '' then
  local ids, first, previous = {}, nil, nil
  for i = 3, #reply do
    local id = tonumber((string.match(reply[i], '%d+')))
    if previous and id == previous + 1 then
      previous = id
    else
      if first then ids[#ids + 1] = string.format('%014d+%d', first, previous - first) end
      first, previous = id, id
    end
  end
  ids[#ids + 1] = string.format('%014d+%d', first, previous - first)
  local until_when = now + meta.idempotency_window
  redis.call('HSET', DEDUP, key, until_when .. '\t' .. fingerprint .. '\t' .. table.concat(ids, ','))
  redis.call('ZADD', DEDUP_UNTIL, until_when, key)
  wake_at(until_when)
end
if stored_count == 0 then return reply end
redis.call('SET', SEQ, string.format('%014d', next_id - 1))
redis.call('HSET', MESSAGES, unpack(records))
if #all_options > 0 then redis.call('HSET', OPTIONS, unpack(all_options)) end
if #aliases > 0 then redis.call('HSET', ALIASES, unpack(aliases)) end
if #signalled > 0 then
  redis.call('HSET', SIGNALLED, unpack(signalled))
  record_extra(largest_signal)
end
if largest > (tonumber(meta.largest) or 0) then redis.call('HSET', META, 'largest', largest) end
redis.call('HINCRBY', META, 'total:enqueued', stored_count)
if is_listened then record_enqueued() end
if #held > 0 then redis.call('ZADD', HELD, unpack(held)) end
if #expiring > 0 then
  redis.call('ZADD', EXPIRING, unpack(expiring))
  wake_at(earliest_expiry)
end
if #delayed > 0 then
  redis.call('ZADD', DELAYED, unpack(delayed))
  wake_at(earliest)
end
groups.tally(all_options, 1)
local was_empty = #ready > 0 and push_tail(ready, false, ready_options)
if groups.write() or was_empty then wake_now() end
return reply

#!lua
-- enqueue: stores messages, all or none, in the order given.
-- KEYS      meta seq messages options waiting prioritized delayed aliases wake
-- USES      clock epoch fields wake line
-- ARGV      epoch, the default of max_attempts; then for each message three: when it is due ('' now, '+1500' ms from now, or an instant in ms),
--           its options, its record without the instant of creation
-- Returns   the server's time in ms, max_attempts of the queue, then an id for each message; '=' before it: the producer's own id stood already
-- Complexity O(messages), O(log N) for each delayed or prioritised one
if not same_epoch(ARGV[1]) then return STALE_EPOCH end

-- 10 µs since 2020: larger than any id before, even when Redis came back empty.
local last = tonumber(redis.call('GET', SEQ)) or 0
local next_id = math.max(last + 1, math.floor(now_us / 10) - 157783680000000)

local reply = { now, redis.call('HGET', META, 'max_attempts') or ARGV[2] }
local records, all_options, aliases, mine = {}, {}, {}, {}
local ready, delayed = {}, {}
local earliest = math.huge
local largest = 0

for i = 3, #ARGV, 3 do
  local when, options, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local own_id = field(options, 'i')
  local standing = own_id and (mine[own_id] or redis.call('HGET', ALIASES, own_id))
  if standing then
    reply[#reply + 1] = '=' .. standing
  else
    local id = string.format('%014.0f', next_id)
    next_id = next_id + 1
    reply[#reply + 1] = id
    local due = now
    if when ~= '' then
      due = tonumber(when)
      if string.byte(when) == 43 then due = now + due end
    end
    local header = due > now and (now .. '\td' .. due) or now
    record = header .. record
    largest = math.max(largest, #record)
    records[#records + 1] = id
    records[#records + 1] = record
    if options ~= '' then
      all_options[#all_options + 1] = id
      all_options[#all_options + 1] = options
    end
    if own_id then
      mine[own_id] = id
      aliases[#aliases + 1] = own_id
      aliases[#aliases + 1] = id
    end
    if due > now then
      delayed[#delayed + 1] = due
      delayed[#delayed + 1] = id
      earliest = math.min(earliest, due)
    else
      ready[#ready + 1] = id
    end
  end
end

if #records == 0 then return reply end
redis.call('SET', SEQ, string.format('%014.0f', next_id - 1))
redis.call('HSET', MESSAGES, unpack(records))
if #all_options > 0 then redis.call('HSET', OPTIONS, unpack(all_options)) end
if #aliases > 0 then redis.call('HSET', ALIASES, unpack(aliases)) end
if largest > (tonumber(redis.call('HGET', META, 'largest')) or 0) then
  redis.call('HSET', META, 'largest', largest)
end
redis.call('HINCRBY', META, 'total:enqueued', #records / 2)
if #delayed > 0 then
  redis.call('ZADD', DELAYED, unpack(delayed))
  look_at(earliest)
end
if #ready > 0 and join_tail(ready) then look_now() end
return reply

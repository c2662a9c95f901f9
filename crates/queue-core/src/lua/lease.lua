#!lua flags=allow-oom
-- lease: hands out messages: recovers lapsed leases, promotes what is due, and takes from the front of the line.
-- KEYS      meta messages options waiting prioritized delayed leased runs completed failed outcomes removed aliases awaited wake
-- USES      clock epoch fields wake line promote run finish trim recover
-- ARGV      epoch, at most so many, at most so many bytes of records, token, consumer; defaults of settings that the
--           queue lacks: visibility timeout (ms), max_lapses, retention of failed messages, max_attempts; a tenth, if
--           given, is the visibility timeout of these leases whatever the queue's
-- Returns   time (ms), deadline (ms), visibility timeout (ms), µs until the earliest known reason to look again (-1:
--           none), 1 if more is ready, max_attempts of the queue, then for each message: id, record, options, run as it
--           was before
-- Complexity O(messages · log N)
if not same_epoch(ARGV[1]) then return STALE_EPOCH end
local max, max_bytes, token, consumer = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local set = redis.call('HMGET', META, 'visibility_timeout', 'max_lapses', 'retention.failed', 'largest', 'max_attempts')
local visibility_timeout = tonumber(ARGV[10] or set[1] or ARGV[6])
local max_attempts = set[5] or ARGV[9]
local largest = tonumber(set[4]) or 0

recover(tonumber(set[2] or ARGV[7]), 100)
write_finished()
if #finished.ids > 0 then trim_failed(set[3] or ARGV[8], 200) end
promote(1000)

-- Peeks before it takes, so that what would not fit into the answer stays where it is.
local taken, bytes = {}, 0
local sizes_matter = largest * max > max_bytes
local full = false
local function take(candidates)
  local count = 0
  for _, id in ipairs(candidates) do
    if sizes_matter then
      bytes = bytes + redis.call('HSTRLEN', MESSAGES, id)
      if bytes > max_bytes and #taken > 0 then
        full = true
        break
      end
    end
    count = count + 1
    taken[#taken + 1] = id
  end
  full = full or #taken >= max
  return count
end

local function take_prioritized(from, to)
  if full then return end
  local ids = redis.call('ZRANGE', PRIORITIZED, from, to, 'BYSCORE', 'LIMIT', 0, max - #taken)
  local count = take(ids)
  if count > 0 then redis.call('ZREM', PRIORITIZED, unpack(ids, 1, count)) end
end

-- Removed messages still stand in the list: they are passed over, a bounded number a call.
local function take_waiting()
  for _ = 1, 10 do
    if full then return end
    local ids = redis.call('LRANGE', WAITING, 0, max - #taken - 1)
    if #ids == 0 then return end
    local gone = redis.call('EXISTS', REMOVED) == 1 and redis.call('SMISMEMBER', REMOVED, unpack(ids))
    if not gone then
      redis.call('LTRIM', WAITING, take(ids), -1)
      return
    end
    local standing, skipped = {}, {}
    for i, id in ipairs(ids) do
      if gone[i] == 1 then skipped[#skipped + 1] = id else standing[#standing + 1] = id end
    end
    redis.call('LTRIM', WAITING, #ids, -1)
    if #skipped > 0 then redis.call('SREM', REMOVED, unpack(skipped)) end
    local count = take(standing)
    for i = #standing, count + 1, -1 do redis.call('LPUSH', WAITING, standing[i]) end
  end
end

local any_prioritized = redis.call('EXISTS', PRIORITIZED) == 1
if any_prioritized then take_prioritized('-inf', '(0') end
take_waiting()
if any_prioritized then take_prioritized('(0', '+inf') end

local function ready_again()
  return redis.call('EXISTS', WAITING) == 1 or redis.call('EXISTS', PRIORITIZED) == 1
end

-- An idle consumer must look when the next message is due, when the next lease lapses, and at `watch`.
local function next_look()
  local watch = tonumber(redis.call('HGET', META, 'watch')) or 0
  local earliest = watch > now and watch or math.huge
  for _, index in ipairs({ DELAYED, LEASED }) do
    local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    if first[2] then earliest = math.min(earliest, tonumber(first[2])) end
  end
  if earliest == math.huge then return -1 end
  return math.max(0, earliest * 1000 - now_us)
end

local deadline = now + visibility_timeout
if #taken == 0 then
  return { now, deadline, visibility_timeout, next_look(), ready_again() and 1 or 0, max_attempts }
end

local records = redis.call('HMGET', MESSAGES, unpack(taken))
local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(taken)) or {}
local before = redis.call('HLEN', RUNS) > 0 and redis.call('HMGET', RUNS, unpack(taken)) or {}
local first_run = format_run({
  token = token, started = now, attempts = 0, lapses = 0, deliveries = 1, consumer = consumer, settled = '', error = '',
})
local reply, runs, deadlines = {}, {}, {}
for i, id in ipairs(taken) do
  local run = first_run
  if before[i] then
    local earlier = parse_run(before[i])
    earlier.token, earlier.started, earlier.consumer = token, now, consumer
    earlier.deliveries = earlier.deliveries + 1
    run = format_run(earlier)
  end
  runs[#runs + 1] = id
  runs[#runs + 1] = run
  deadlines[#deadlines + 1] = deadline
  deadlines[#deadlines + 1] = id
  local at = 6 + (i - 1) * 4
  reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = id, records[i] or '', options[i] or '', before[i] or ''
end
redis.call('HSET', RUNS, unpack(runs))
redis.call('ZADD', LEASED, unpack(deadlines))
look_at(deadline)
reply[1], reply[2], reply[3], reply[4], reply[5], reply[6] =
  now, deadline, visibility_timeout, full and -1 or next_look(), ready_again() and 1 or 0, max_attempts
return reply

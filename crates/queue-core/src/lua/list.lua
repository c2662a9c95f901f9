#!lua flags=no-writes
-- list: ids of the messages in one state, page by page: delayed ones by due time, active ones by deadline, held ones by
-- key, waiting ones as they stand in the line, finished ones from the newest back.
-- KEYS      meta waiting prioritized delayed leased completed failed removed held erased
-- ARGV      state, at most so many, where to go on ('' at first)
-- Returns   where to go on ('' at the end), then ids; fewer than asked for, or none, is not yet the end
-- Complexity O(log² N + ids); waiting O(place in the line)
local state, limit, cursor = ARGV[1], tonumber(ARGV[2]), ARGV[3]

-- How many members of a sorted set stand before the one at the cursor, or at it too; exact even when it has gone.
local function standing_before(key, score, id, at_it_too)
  local low, high = redis.call('ZCOUNT', key, '-inf', '(' .. score), redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', key, middle, middle)[1]
    if member < id or (at_it_too and member == id) then low = middle + 1 else high = middle end
  end
  return low
end

local function page_of_set(key, newest_first)
  local score, id = string.match(cursor, '^(%d+):(%d+)$')
  local from, to
  if newest_first then
    to = (score and standing_before(key, score, id, false) or redis.call('ZCARD', key)) - 1
    from = math.max(0, to - limit + 1)
    if to < 0 then return { '' } end
  else
    from = score and standing_before(key, score, id, true) or 0
    to = from + limit - 1
  end
  local found = redis.call('ZRANGE', key, from, to, 'WITHSCORES')
  local reply = { '' }
  local n = #found / 2
  for i = 1, n do
    local at = newest_first and n + 1 - i or i
    reply[#reply + 1] = found[2 * at - 1]
    reply[1] = string.format('%.0f', found[2 * at]) .. ':' .. found[2 * at - 1]
  end
  if n < limit then reply[1] = '' end
  return reply
end

local function page_of_held()
  local members = redis.call('ZRANGE', HELD, cursor == '' and '-' or '(' .. cursor, '+', 'BYLEX', 'LIMIT', 0, limit)
  local reply = { #members == limit and members[limit] or '' }
  for _, member in ipairs(members) do
    reply[#reply + 1] = string.match(member, '\t(%d+)\t?%d*$')
  end
  return reply
end

local function without(gone, ids, reply)
  if #ids == 0 then return reply end
  for i, is_gone in ipairs(redis.call('SMISMEMBER', gone, unpack(ids))) do
    if is_gone == 0 then reply[#reply + 1] = ids[i] end
  end
  return reply
end

local function page_of_line()
  local from = tonumber(cursor) or 0
  local before = redis.call('ZCOUNT', PRIORITIZED, '-inf', '(0')
  local plain = redis.call('LLEN', WAITING)
  local found = {}
  local function add(ids)
    for _, id in ipairs(ids) do found[#found + 1] = id end
  end
  local function next_place() return from + #found end
  local function room() return limit - #found end
  if next_place() < before then
    add(redis.call('ZRANGE', PRIORITIZED, next_place(), math.min(before, next_place() + room()) - 1))
  end
  if room() > 0 and next_place() >= before and next_place() < before + plain then
    local at = next_place() - before
    add(redis.call('LRANGE', WAITING, at, at + room() - 1))
  end
  if room() > 0 and next_place() >= before + plain then
    local at = next_place() - plain
    add(redis.call('ZRANGE', PRIORITIZED, at, at + room() - 1))
  end
  return without(REMOVED, found, { #found == limit and tostring(from + limit) or '' })
end

-- Places are counted since the queue exists, so that a trim moves nothing.
local function page_of_completed()
  local trimmed = tonumber(redis.call('HGET', META, 'trimmed')) or 0
  local to = math.min(tonumber(cursor) or math.huge, trimmed + redis.call('LLEN', COMPLETED))
  local from = math.max(trimmed, to - limit)
  if to <= from then return { '' } end
  local found, newest_first = redis.call('LRANGE', COMPLETED, from - trimmed, to - trimmed - 1), {}
  for i = #found, 1, -1 do newest_first[#newest_first + 1] = found[i] end
  return without(ERASED, newest_first, { from > trimmed and string.format('%.0f', from) or '' })
end

if state == 'held' then return page_of_held() end
if state == 'delayed' then return page_of_set(DELAYED, false) end
if state == 'waiting' then return page_of_line() end
if state == 'active' then return page_of_set(LEASED, false) end
if state == 'completed' then return page_of_completed() end
return page_of_set(FAILED, true)

#!lua flags=no-writes
-- list: the messages in one state, page by page: delayed ones by due time, active ones by deadline, held ones by
-- key, waiting ones as they stand in the waiting list, finished ones from the newest back.
-- KEYS      messages waiting prioritized delayed leased completed failed removed held erased
-- USES      settings fields places shown
-- ARGV      state, at most so many messages, at most so many bytes (but one message at least), where to go on ('' at first),
--           the name that they have and the key that held ones wait for ('': any)
-- Returns   where to go on ('' at the end); how many of the bytes are used; then the messages as `read` answers them. Fewer than
--           asked for, or none, is not yet the end
-- Complexity O(log² N + messages), with a name O(1,000); waiting O(place in the waiting list)
read_settings('max_attempts', 'trimmed')
local state, limit, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local cursor, name, hold = ARGV[4], ARGV[5], ARGV[6]
-- Of a name there may be few, so the call looks at more messages than it answers. Each takes a part of the bytes, as if it
-- were answered, so that the bytes bound how many are looked at, too.
local most = name == '' and limit or MAX_MESSAGES
local least_bytes = name == '' and 0 or math.ceil(MAX_BYTES / MAX_MESSAGES)

-- Each answers ids, and for each the place to go on from after it, '' at the end.
local function found_in_set(found)
  local ids, ends = {}, {}
  for i = 1, #found, 2 do
    ids[#ids + 1] = found[i]
    ends[#ids] = places.of(found[i], found[i + 1])
  end
  if #ids < most then ends[#ids] = '' end
  return ids, ends
end

local function found_held()
  -- The members of a key are those between its tab and the character after that.
  local from, to = '-', '+'
  if hold ~= '' then from, to = '[' .. hold .. '\t', '(' .. hold .. '\n' end
  if cursor ~= '' then from = '(' .. cursor end
  local members = redis.call('ZRANGE', HELD, from, to, 'BYLEX', 'LIMIT', 0, most)
  local ids, ends = {}, members
  for i, member in ipairs(members) do ids[i] = string.match(member, '\t(%d+)\t?%d*$') end
  if #ids < most then ends[#ids] = '' end
  return ids, ends
end

local function found_in_line()
  local from = tonumber(cursor) or 0
  local before = redis.call('ZCOUNT', PRIORITIZED, '-inf', '(0')
  local plain = redis.call('LLEN', WAITING)
  local ids, ends, ranked = {}, {}, {}
  local function add(found, are_ranked)
    for _, id in ipairs(found) do
      ids[#ids + 1] = id
      ends[#ids] = string.format('%d', from + #ids)
      ranked[#ids] = are_ranked
    end
  end
  local function next_place() return from + #ids end
  local function room() return most - #ids end
  if next_place() < before then
    add(redis.call('ZRANGE', PRIORITIZED, next_place(), math.min(before, next_place() + room()) - 1), true)
  end
  if room() > 0 and next_place() >= before and next_place() < before + plain then
    local at = next_place() - before
    add(redis.call('LRANGE', WAITING, at, at + room() - 1), false)
  end
  if room() > 0 and next_place() >= before + plain then
    local at = next_place() - plain
    add(redis.call('ZRANGE', PRIORITIZED, at, at + room() - 1), true)
  end
  if #ids < most then ends[#ids] = '' end
  return ids, ends, ranked
end

-- Places are counted since the queue exists, so that a trim moves nothing.
local function found_completed()
  local trimmed = tonumber(set.trimmed) or 0
  local to = math.min(tonumber(cursor) or math.huge, trimmed + redis.call('LLEN', COMPLETED))
  local from = math.max(trimmed, to - most)
  local ids, ends = {}, {}
  if to <= from then return ids, ends end
  local found = redis.call('LRANGE', COMPLETED, from - trimmed, to - trimmed - 1)
  for i = #found, 1, -1 do
    ids[#ids + 1] = found[i]
    local place = from + i - 1
    ends[#ids] = place > trimmed and string.format('%.0f', place) or ''
  end
  return ids, ends
end

local function show_named(id)
  if name ~= '' then
    local record = redis.call('HGET', MESSAGES, id) or ''
    if field_in(record, 'n') ~= '\tn' .. name then return false, #record end
  end
  return show(id)
end

local gone_from = { waiting = REMOVED, completed = ERASED }
local ids, ends, ranked
if state == 'held' then
  ids, ends = found_held()
elseif state == 'delayed' then
  ids, ends = found_in_set(places.members_from(DELAYED, cursor, most))
elseif state == 'waiting' then
  ids, ends, ranked = found_in_line()
elseif state == 'active' then
  ids, ends = found_in_set(places.members_from(LEASED, cursor, most))
elseif state == 'completed' then
  ids, ends = found_completed()
else
  ids, ends = found_in_set(places.members_before(FAILED, cursor, most))
end

local gone = #ids > 0 and gone_from[state] and redis.call('SMISMEMBER', gone_from[state], unpack(ids)) or {}
local reply, bytes = { '', 0 }, 0
for i, id in ipairs(ids) do
  if #reply == 2 + limit then break end
  local shown, more = false, 0
  -- A message that is marked as removed from the list may be ready at a priority.
  if gone[i] ~= 1 or (ranked and ranked[i]) then shown, more = show_named(id) end
  more = math.max(more, least_bytes)
  if bytes > 0 and bytes + more > max_bytes then break end
  bytes = bytes + more
  reply[1] = ends[i]
  if shown then reply[#reply + 1] = shown end
end
reply[2] = bytes
return reply

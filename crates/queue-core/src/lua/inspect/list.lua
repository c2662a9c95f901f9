#!lua flags=no-writes
-- list: lists the messages in one state, page by page: delayed ones by due time, active ones by deadline, held ones by key,
-- waiting ones in the order of the waiting list, finished ones from newest to oldest.
-- KEYS      messages waiting prioritized delayed leased completed failed removed held erased
-- USES      meta fields cursors shown
-- ARGV      state, maximum number of messages, maximum bytes (exceeded by a single large message only), cursor ('' at first),
--           a name and a hold key that the messages must have ('': any)
-- Returns   the cursor for the next page ('' at the end); how many bytes are used; then the messages as `read` returns them. A page
--           may have fewer messages than requested, or none, before the end
-- Complexity O(log² N + messages), with a name O(1,000); waiting O(position in the waiting list)
local state, limit, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local cursor, name, hold = ARGV[4], ARGV[5], ARGV[6]
-- Few messages may have the name, so the call checks more messages than it returns. Each checked message counts as a minimum
-- number of bytes, so that the bytes also bound how many messages are checked.
local max_checked = name == '' and limit or MAX_MESSAGES
local min_bytes = name == '' and 0 or math.ceil(MAX_BYTES / MAX_MESSAGES)

-- Each `found_…` function returns ids, and for each id the cursor that continues after it, '' at the end.
local function found_in_set(found)
  local ids, cursors_after = {}, {}
  for i = 1, #found, 2 do
    ids[#ids + 1] = found[i]
    cursors_after[#ids] = cursors.of(found[i], found[i + 1])
  end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after
end

local function found_held()
  -- A member begins with `key\tid`. In byte order all members of a key lie between `key\t` and `key\n` (`\n` is the byte after
  -- `\t`).
  local from, to = '-', '+'
  if hold ~= '' then from, to = '[' .. hold .. '\t', '(' .. hold .. '\n' end
  if cursor ~= '' then from = '(' .. cursor end
  local members = redis.call('ZRANGE', HELD, from, to, 'BYLEX', 'LIMIT', 0, max_checked)
  local ids, cursors_after = {}, members
  for i, member in ipairs(members) do ids[i] = string.match(member, '\t(%d+)\t?%d*$') end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after
end

local function found_waiting()
  local from = tonumber(cursor) or 0
  local before = redis.call('ZCOUNT', PRIORITIZED, '-inf', '(0')
  local plain = redis.call('LLEN', WAITING)
  local ids, cursors_after, ranked = {}, {}, {}
  local function add(found, are_ranked)
    for _, id in ipairs(found) do
      ids[#ids + 1] = id
      cursors_after[#ids] = string.format('%d', from + #ids)
      ranked[#ids] = are_ranked
    end
  end
  local function next_index() return from + #ids end
  local function room() return max_checked - #ids end
  if next_index() < before then
    add(redis.call('ZRANGE', PRIORITIZED, next_index(), math.min(before, next_index() + room()) - 1), true)
  end
  if room() > 0 and next_index() >= before and next_index() < before + plain then
    local index = next_index() - before
    add(redis.call('LRANGE', WAITING, index, index + room() - 1), false)
  end
  if room() > 0 and next_index() >= before + plain then
    local index = next_index() - plain
    add(redis.call('ZRANGE', PRIORITIZED, index, index + room() - 1), true)
  end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after, ranked
end

-- A cursor is an index that counts trimmed messages too, so that a trim does not change it.
local function found_completed()
  local trimmed = tonumber(meta.trimmed) or 0
  local to = math.min(tonumber(cursor) or math.huge, trimmed + redis.call('LLEN', COMPLETED))
  local from = math.max(trimmed, to - max_checked)
  local ids, cursors_after = {}, {}
  if to <= from then return ids, cursors_after end
  local found = redis.call('LRANGE', COMPLETED, from - trimmed, to - trimmed - 1)
  for i = #found, 1, -1 do
    ids[#ids + 1] = found[i]
    local index = from + i - 1
    cursors_after[#ids] = index > trimmed and string.format('%.0f', index) or ''
  end
  return ids, cursors_after
end

local function show_if_named(id)
  if name ~= '' then
    local record = redis.call('HGET', MESSAGES, id) or ''
    if field_in(record, 'n') ~= '\tn' .. name then return false, #record end
  end
  return show(id)
end

local removed_from = { waiting = REMOVED, completed = ERASED }
local ids, cursors_after, ranked
if state == 'held' then
  ids, cursors_after = found_held()
elseif state == 'delayed' then
  ids, cursors_after = found_in_set(cursors.members_from(DELAYED, cursor, max_checked))
elseif state == 'waiting' then
  ids, cursors_after, ranked = found_waiting()
elseif state == 'active' then
  ids, cursors_after = found_in_set(cursors.members_from(LEASED, cursor, max_checked))
elseif state == 'completed' then
  ids, cursors_after = found_completed()
else
  ids, cursors_after = found_in_set(cursors.members_before(FAILED, cursor, max_checked))
end

local is_removed = #ids > 0 and removed_from[state] and redis.call('SMISMEMBER', removed_from[state], unpack(ids)) or {}
local reply, bytes = { '', 0 }, 0
for i, id in ipairs(ids) do
  if #reply == 2 + limit then break end
  local shown, size = false, 0
  -- An id that is marked as removed from the list may be ready at another priority.
  if is_removed[i] ~= 1 or (ranked and ranked[i]) then shown, size = show_if_named(id) end
  size = math.max(size, min_bytes)
  if bytes > 0 and bytes + size > max_bytes then break end
  bytes = bytes + size
  reply[1] = cursors_after[i]
  if shown then reply[#reply + 1] = shown end
end
reply[2] = bytes
return reply

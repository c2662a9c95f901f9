#!lua flags=no-writes
-- list: lists the messages in one state, page by page: delayed messages by due time, active messages by deadline, held messages by
-- hold key, finished messages from newest to oldest. Waiting messages without a group come in the order of the waiting list; then
-- comes the first waiting message of each group, and then the other messages of the groups, group by group.
-- KEYS      messages options waiting prioritized delayed leased completed failed removed held erased groups group_rest
-- USES      meta fields cursors shown
-- ARGV      state, maximum number of messages, maximum bytes (exceeded by a single large message only), cursor ('' at first),
--           a name, a hold key and a group that the messages must have ('': any)
-- Returns   the cursor for the next page ('' at the end); how many bytes are used; then the messages as `read` returns them. A page
--           may have fewer messages than requested, or none, before the end
-- Complexity O(log² N + messages), with a name, or a group of messages that are not waiting, O(1,000); waiting O(position in the
--           waiting list)
local wanted_state, max_messages, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local cursor, wanted_name, wanted_hold_key, wanted_group = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
-- If few messages have the wanted name or group, the call checks more messages than it returns. Each checked message counts as at least
-- `min_bytes` bytes, so that `max_bytes` also bounds how many messages are checked. The groups of waiting messages are not checked one
-- by one, because the keys `groups` and `group_rest` list the ready messages of a group.
local checks_group = wanted_group ~= '' and wanted_state ~= 'waiting'
local checks_each_message = wanted_name ~= '' or checks_group
local max_checked = checks_each_message and MAX_MESSAGES or max_messages
local min_bytes = checks_each_message and math.ceil(MAX_BYTES / MAX_MESSAGES) or 0

-- Each `find_…` function returns ids, and for each id the cursor that continues after that id, '' at the end of the list. The
-- argument of `find_in_set` has the members of a sorted set with their scores.
local function find_in_set(found_items)
  local ids, cursors_after = {}, {}
  for i = 1, #found_items, 2 do
    ids[#ids + 1] = found_items[i]
    cursors_after[#ids] = cursors.of(found_items[i], found_items[i + 1])
  end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after
end

local function find_held()
  -- A member of `held` begins with the hold key, a tab and the id. In byte order all members of a hold key lie between `key\t` and
  -- `key\n` (`\n` is the byte after `\t`).
  local range_start, range_end = '-', '+'
  if wanted_hold_key ~= '' then range_start, range_end = '[' .. wanted_hold_key .. '\t', '(' .. wanted_hold_key .. '\n' end
  if cursor ~= '' then range_start = '(' .. cursor end
  local held_members = redis.call('ZRANGE', HELD, range_start, range_end, 'BYLEX', 'LIMIT', 0, max_checked)
  local ids, cursors_after = {}, held_members
  for i, member in ipairs(held_members) do ids[i] = string.match(member, '\t(%d+)\t?%d*$') end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after
end

-- Finds the waiting messages of the group: its first message, and then its other messages.
local function find_waiting_of_group()
  local ids, cursors_after = {}, {}
  local function add_to_page(position)
    ids[#ids + 1] = string.sub(position, -14)
    cursors_after[#ids] = 'r' .. wanted_group .. '\t' .. (#ids == 1 and cursor == '' and '' or string.sub(position, -22))
  end
  local group_head = cursor == '' and redis.call('HGET', GROUPS, wanted_group)
  if group_head and string.byte(group_head) ~= 47 then add_to_page(string.sub(group_head, 1, 22)) end
  local range_start = cursor == '' and wanted_group .. '\t' or string.sub(cursor, 2)
  for _, member in ipairs(redis.call(
    'ZRANGE', GROUP_REST, '(' .. range_start, '(' .. wanted_group .. '\n', 'BYLEX', 'LIMIT', 0, max_checked - #ids)) do
    add_to_page(member)
  end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after
end

-- Adds waiting messages with a group to the page, after the messages without a group. While the first messages of groups are listed, a
-- cursor is `h`, the cursor of HSCAN over `groups`, a colon, and how many groups of that HSCAN were listed. While the messages behind
-- the first messages of their groups are listed, a cursor is `r` and the last listed member of `group_rest`.
local SCAN_COUNT = 100
local function add_waiting_of_groups(ids, cursors_after)
  local scan_cursor, skipped_count = string.match(cursor, '^h(%d+):(%d+)$')
  local is_in_rest = string.sub(cursor, 1, 1) == 'r'
  scan_cursor, skipped_count = scan_cursor or '0', tonumber(skipped_count) or 0
  while not is_in_rest and #ids < max_checked do
    local scan_page = redis.call('HSCAN', GROUPS, scan_cursor, 'COUNT', SCAN_COUNT)
    local found_count = #scan_page[2] / 2
    for i = skipped_count + 1, found_count do
      if #ids >= max_checked then return end
      -- In the hash `groups`, the value of a group without a ready message begins with a slash.
      if string.byte(scan_page[2][2 * i]) ~= 47 then
        ids[#ids + 1] = #scan_page[2][2 * i] == 14 and scan_page[2][2 * i] or string.sub(scan_page[2][2 * i], 9, 22)
        cursors_after[#ids] = 'h' .. scan_cursor .. ':' .. i
      end
    end
    scan_cursor, skipped_count, is_in_rest = scan_page[1], 0, scan_page[1] == '0'
  end
  if #ids >= max_checked then return end
  local range_start = is_in_rest and #cursor > 1 and string.sub(cursor, 1, 1) == 'r' and '(' .. string.sub(cursor, 2) or '-'
  for _, member in ipairs(redis.call('ZRANGE', GROUP_REST, range_start, '+', 'BYLEX', 'LIMIT', 0, max_checked - #ids)) do
    ids[#ids + 1] = string.sub(member, -14)
    cursors_after[#ids] = 'r' .. member
  end
end

-- Adds waiting messages without a group to the page. The cursor after a waiting message without a group is the number of entries of
-- this list up to the message.
local function add_waiting_without_group(ids, cursors_after, skips_removed_check, room)
  local range_start = tonumber(cursor) or 0
  local prioritized_before = redis.call('ZCOUNT', PRIORITIZED, '-inf', '(0')
  local waiting_length = redis.call('LLEN', WAITING)
  local function add_to_page(found_items, skip_removed_check)
    for _, id in ipairs(found_items) do
      ids[#ids + 1] = id
      cursors_after[#ids] = string.format('%d', range_start + #ids)
      skips_removed_check[#ids] = skip_removed_check
    end
  end
  local function next_index() return range_start + #ids end
  if next_index() < prioritized_before then
    add_to_page(redis.call('ZRANGE', PRIORITIZED, next_index(), math.min(prioritized_before, next_index() + room()) - 1), true)
  end
  if room() > 0 and next_index() >= prioritized_before and next_index() < prioritized_before + waiting_length then
    local index = next_index() - prioritized_before
    add_to_page(redis.call('LRANGE', WAITING, index, index + room() - 1), false)
  end
  if room() > 0 and next_index() >= prioritized_before + waiting_length then
    local index = next_index() - waiting_length
    add_to_page(redis.call('ZRANGE', PRIORITIZED, index, index + room() - 1), true)
  end
end

local function find_waiting()
  if wanted_group ~= '' then return find_waiting_of_group() end
  local ids, cursors_after, skips_removed_check = {}, {}, {}
  local function remaining_room() return max_checked - #ids end
  if cursor == '' or tonumber(cursor) then add_waiting_without_group(ids, cursors_after, skips_removed_check, remaining_room) end
  if remaining_room() > 0 and meta.ready and meta.ready ~= '0' then
    -- Waiting messages with a group are never marked as removed.
    for i = #ids + 1, max_checked do skips_removed_check[i] = true end
    add_waiting_of_groups(ids, cursors_after)
  end
  if #ids < max_checked then cursors_after[#ids] = '' end
  return ids, cursors_after, skips_removed_check
end

-- Finds completed messages. The cursor of a completed message is an index that counts trimmed messages too, so that a trim does not
-- change the cursor.
local function find_completed()
  local trimmed_count = tonumber(meta.trimmed) or 0
  local range_end = math.min(tonumber(cursor) or math.huge, trimmed_count + redis.call('LLEN', COMPLETED))
  local range_start = math.max(trimmed_count, range_end - max_checked)
  local ids, cursors_after = {}, {}
  if range_end <= range_start then return ids, cursors_after end
  local found_items = redis.call('LRANGE', COMPLETED, range_start - trimmed_count, range_end - trimmed_count - 1)
  for i = #found_items, 1, -1 do
    ids[#ids + 1] = found_items[i]
    local index = range_start + i - 1
    cursors_after[#ids] = index > trimmed_count and string.format('%.0f', index) or ''
  end
  return ids, cursors_after
end

local function show_if_wanted(id)
  if checks_group and field(redis.call('HGET', OPTIONS, id), 'g') ~= wanted_group then return false, 0 end
  if wanted_name ~= '' then
    local record = redis.call('HGET', MESSAGES, id) or ''
    if field_in(record, 'n') ~= '\tn' .. wanted_name then return false, #record end
  end
  return show(id)
end

local removed_from = { waiting = REMOVED, completed = ERASED }
local ids, cursors_after, skips_removed_check
if wanted_state == 'held' then
  ids, cursors_after = find_held()
elseif wanted_state == 'delayed' then
  ids, cursors_after = find_in_set(cursors.members_from(DELAYED, cursor, max_checked))
elseif wanted_state == 'waiting' then
  ids, cursors_after, skips_removed_check = find_waiting()
elseif wanted_state == 'active' then
  ids, cursors_after = find_in_set(cursors.members_from(LEASED, cursor, max_checked))
elseif wanted_state == 'completed' then
  ids, cursors_after = find_completed()
else
  ids, cursors_after = find_in_set(cursors.members_before(FAILED, cursor, max_checked))
end

local is_removed = #ids > 0 and removed_from[wanted_state] and redis.call('SMISMEMBER', removed_from[wanted_state], unpack(ids)) or {}
local reply, bytes = { '', 0 }, 0
for i, id in ipairs(ids) do
  if #reply == 2 + max_messages then break end
  local shown_message, size = false, 0
  -- A message whose id is marked as removed from the list `waiting` may be ready at another priority.
  if is_removed[i] ~= 1 or (skips_removed_check and skips_removed_check[i]) then shown_message, size = show_if_wanted(id) end
  size = math.max(size, min_bytes)
  if bytes > 0 and bytes + size > max_bytes then break end
  bytes = bytes + size
  reply[1] = cursors_after[i]
  if shown_message then reply[#reply + 1] = shown_message end
end
reply[2] = bytes
return reply

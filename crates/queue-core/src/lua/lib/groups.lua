-- groups: keeps the messages of each group in order, bounds how many of them are active, and gives the groups turns.
--
-- A ready message has a position in its group, a text of three parts: 0 if the message was leased before, else 1; its priority as
-- seven digits; its id. The message with the smallest position is leased first. A message takes a place of its group when it is
-- leased, and keeps it while it is active, in back-off, or released with a pause or a hold key.
-- The hash `groups` has for each group the first position and how many more messages are ready, if any is ready, and then, if any
-- place is taken, a slash and the number of taken places. The sorted set `group_rest` has all ready messages of groups except each
-- group's first one, as group, tab and position.
-- A group has a turn if the group has a ready message and a free place. Turns are numbers; the lowest number comes first. The sorted
-- set `turns` has groups by their turns; '' stands in `turns` for the messages without a group.
-- A group is single if its only unfinished message has priority 0 and has been ready since its post, and the group had no unfinished
-- message before. For a single group the hash `groups` has the id of the message alone. The turn of a single group is that id as a
-- number, and the list `single_turns` has that id; the ids in the list ascend. When anything about a single group changes, the group is
-- no longer single, and its turn, if the group still has one, moves to `turns` with the same number. An id in `single_turns` is stale
-- if it is not stored for a group in `groups`; scripts remove stale ids from the head of the list.
-- The field `grouped` of `meta` counts the unfinished messages with a group. In a queue without unfinished messages with a group,
-- `grouped` is absent, and no function of groups.lua runs a command of Redis. The field `ready` of `meta` counts the ready messages
-- with a group. The field `turn` of `meta` is the last turn given.
-- The functions of groups.lua change groups only in the memory of the script. A script calls `groups.write` before it reads turns, and
-- at its end.
-- KEYS meta options waiting prioritized removed groups group_rest turns single_turns purged_groups
-- USES meta fields
local groups = {}
do
  local POSITION_LENGTH, ID_LENGTH, PLAIN_POSITION_START = 22, 14, '12097152'
  local groups_by_name, changed_groups, new_rest_members = {}, {}, {}
  local last_turn = tonumber(meta.turn) or 0

  -- The numbers of unfinished and of ready messages with a group.
  groups.unfinished, groups.ready = tonumber(meta.grouped) or 0, tonumber(meta.ready) or 0

  function groups.max_places()
    return tonumber(meta['groups.concurrency']) or math.huge
  end

  function groups.key_of(options)
    return field(options, 'g')
  end

  function groups.priority_of(options)
    return tonumber(field(options, 'p')) or 0
  end

  -- Reads the form in which a group is stored: its first position, the number of its other ready messages, and its places.
  local function parse_group(group_text)
    if not group_text then return nil, 0, 0 end
    if #group_text == ID_LENGTH then return PLAIN_POSITION_START .. group_text, 0, 0 end
    local ready_text, places = string.match(group_text, '^(%d*)/?(%d*)$')
    if not ready_text then return nil, 0, 0 end -- Drover did not write this value.
    local head = #ready_text >= POSITION_LENGTH and string.sub(ready_text, 1, POSITION_LENGTH) or nil
    return head, tonumber(string.sub(ready_text, POSITION_LENGTH + 1)) or 0, tonumber(places) or 0
  end

  -- Moves the numbers of taken places from `purged_groups` to the groups with these names. While a purge is unfinished,
  -- `purged_groups` still has the places of each group that has not changed since the purge began.
  local function take_purged_places(names)
    local stored_texts = redis.call('HMGET', PURGED_GROUPS, unpack(names))
    for i, name in ipairs(names) do
      local head, _, places = parse_group(stored_texts[i])
      if places > 0 then
        groups.changed(name).places = places
        if head then redis.call('HSET', PURGED_GROUPS, name, head) else redis.call('HDEL', PURGED_GROUPS, name) end
      end
    end
  end

  -- Reads the groups with these names from Redis.
  function groups.load(names)
    local missing_names = {}
    for _, name in ipairs(names) do
      if not groups_by_name[name] then
        groups_by_name[name] = {}
        missing_names[#missing_names + 1] = name
      end
    end
    if #missing_names == 0 then return end
    local stored_groups, unknown_names = redis.call('HMGET', GROUPS, unpack(missing_names)), {}
    for i, name in ipairs(missing_names) do
      local group = groups_by_name[name]
      group.name, group.stored = name, stored_groups[i]
      group.head, group.others, group.places = parse_group(stored_groups[i])
      group.ready_before = group.head and group.others + 1 or 0
      if not stored_groups[i] then unknown_names[#unknown_names + 1] = name end
    end
    if meta.purged_to and #unknown_names > 0 then take_purged_places(unknown_names) end
  end

  function groups.load_of(options)
    local names = {}
    for i = 1, #options do names[#names + 1] = groups.key_of(options[i]) end
    if #names > 0 then groups.load(names) end
  end

  function groups.changed(name)
    if not groups_by_name[name] then groups.load({ name }) end
    local group = groups_by_name[name]
    if not group.is_changed then
      group.is_changed = true
      changed_groups[#changed_groups + 1] = group
    end
    return group
  end

  local function write_new_rest()
    if #new_rest_members > 0 then redis.call('ZADD', GROUP_REST, unpack(new_rest_members)) end
    new_rest_members = {}
  end

  -- Returns up to `count` members of `group_rest` of a group, after the group's first `skipped` members.
  function groups.rest_of(name, skipped, count)
    write_new_rest()
    -- In byte order all members of a group lie between `name\t` and `name\n`.
    return redis.call('ZRANGE', GROUP_REST, '[' .. name .. '\t', '(' .. name .. '\n', 'BYLEX', 'LIMIT', skipped, count)
  end

  -- Makes a message of a group ready. A message that was leased before goes before the group's other messages, and frees its place.
  function groups.add(name, id, priority, is_returned)
    local group = groups.changed(name)
    local position = string.format('%s%07d', is_returned and '0' or '1', priority + 2097152) .. id
    if is_returned then group.places = math.max(0, group.places - 1) end
    if not group.head then
      group.head = position
      return
    end
    if position < group.head then group.head, position = position, group.head end
    group.others = group.others + 1
    new_rest_members[#new_rest_members + 1] = '0'
    new_rest_members[#new_rest_members + 1] = name .. '\t' .. position
  end

  -- Removes a ready message of a group.
  function groups.remove(name, id, priority)
    local group = groups.changed(name)
    local priority_and_id = string.format('%07d', priority + 2097152) .. id
    if group.head and string.sub(group.head, 2) == priority_and_id then
      local first_of_rest = group.others > 0 and groups.rest_of(name, 0, 1)[1]
      if first_of_rest then redis.call('ZREM', GROUP_REST, first_of_rest) end
      group.head = first_of_rest and string.sub(first_of_rest, -POSITION_LENGTH) or nil
      group.others = first_of_rest and group.others - 1 or 0
    else
      write_new_rest()
      group.others = group.others - redis.call('ZREM', GROUP_REST, name .. '\t0' .. priority_and_id, name .. '\t1' .. priority_and_id)
    end
  end

  -- Updates the group, if any, of a message that held a place of its group and has finished or was forgotten.
  function groups.leave(options)
    local name = groups.unfinished > 0 and groups.key_of(options)
    if not name then return end
    groups.unfinished = groups.unfinished - 1
    local group = groups.changed(name)
    group.places = math.max(0, group.places - 1)
  end

  -- Adds `by` to the number of unfinished messages with a group, for each message with a group that has one of these options. `by` is
  -- 1 for new unfinished messages, and -1 for messages that have finished or were forgotten and that held no place of their group.
  function groups.tally(options, by)
    if by < 0 and groups.unfinished == 0 then return end
    for i = 1, #options do
      if groups.key_of(options[i]) then groups.unfinished = groups.unfinished + by end
    end
  end

  -- Returns whether a message without a group is ready.
  function groups.is_plain_ready()
    local waiting_length = redis.call('LLEN', WAITING)
    if redis.call('EXISTS', PRIORITIZED, REMOVED) == 0 then return waiting_length > 0 end
    return redis.call('EXISTS', PRIORITIZED) == 1 or waiting_length > redis.call('SCARD', REMOVED)
  end

  -- Returns, for each of these ids of `single_turns`, the name of its group; false for a stale id.
  local function find_single_groups(ids)
    if #ids == 0 then return {} end
    local names, all_options = {}, redis.call('HMGET', OPTIONS, unpack(ids))
    for i = 1, #ids do names[i] = groups.key_of(all_options[i]) or '' end
    for i, stored_group in ipairs(redis.call('HMGET', GROUPS, unpack(names))) do
      if stored_group ~= ids[i] then names[i] = false end
    end
    return names
  end

  -- Removes stale ids from the head of `single_turns`, up to a thousand. Returns whether the first id of the list is known to be not stale.
  function groups.drop_stale_turns()
    local first_name = find_single_groups(redis.call('LRANGE', SINGLE_TURNS, 0, 0))[1]
    if first_name ~= false then return first_name ~= nil end
    local names, stale_count = find_single_groups(redis.call('LRANGE', SINGLE_TURNS, 0, MAX_MESSAGES - 1)), 0
    while names[stale_count + 1] == false do stale_count = stale_count + 1 end
    redis.call('LTRIM', SINGLE_TURNS, stale_count, -1)
    return stale_count < #names
  end

  -- Removes the stale ids among the last thousand ids of `single_turns` if most ids of the list are stale. Only then may stale ids have
  -- gathered behind the message of a paused queue, say. Returns whether ids were removed.
  function groups.drop_stale_tail()
    if redis.call('LLEN', SINGLE_TURNS) <= 2 * groups.ready + MAX_MESSAGES then return false end
    local ids, live_ids = redis.call('LRANGE', SINGLE_TURNS, -MAX_MESSAGES, -1), {}
    for i, name in ipairs(find_single_groups(ids)) do
      if name then live_ids[#live_ids + 1] = ids[i] end
    end
    if #live_ids == #ids then return false end
    redis.call('LTRIM', SINGLE_TURNS, 0, -MAX_MESSAGES - 1)
    if #live_ids > 0 then redis.call('RPUSH', SINGLE_TURNS, unpack(live_ids)) end
    return true
  end

  -- Reads single groups in the order of their turns, up to `count`, or fewer if many ids are stale. Returns for each group its name, its id
  -- and the id's index in `single_turns`; how many ids the function has read; and whether the list has no more ids.
  local MAX_READS = 4
  local function read_single_turns(count)
    local single_groups, read_count = {}, 0
    for _ = 1, MAX_READS do
      local wanted_count = read_count == 0 and count or math.max(count, 500)
      local ids = redis.call('LRANGE', SINGLE_TURNS, read_count, read_count + wanted_count - 1)
      for i, name in ipairs(find_single_groups(ids)) do
        if name then single_groups[#single_groups + 1] = { name = name, id = ids[i], index = read_count + i } end
      end
      read_count = read_count + #ids
      if #ids < wanted_count then return single_groups, read_count, true end
      if #single_groups >= count then break end
    end
    return single_groups, read_count, false
  end

  -- Returns the members that have the next `count` turns, in the order of their turns; whether no other member has a turn; and a
  -- function that removes members from `single_turns`. The argument of that function is the index of the first returned member
  -- that keeps its turn.
  function groups.next_turns(count)
    local single_groups, read_count, all_are_read = read_single_turns(count)
    if read_count == 0 then
      local members = redis.call('ZRANGE', TURNS, 0, count - 1)
      return members, #members < count, function() end
    end
    local scored_members = redis.call('ZRANGE', TURNS, 0, count - 1, 'WITHSCORES')
    -- Behind the last id that was read, the list may have turns that come before turns of `turns`.
    local last_known_turn = all_are_read and math.huge or tonumber(redis.call('LINDEX', SINGLE_TURNS, read_count - 1))
    local members, list_indices, next_single, next_scored = {}, {}, 1, 1
    while #members < count do
      local single_group, turn = single_groups[next_single], tonumber(scored_members[next_scored + 1]) or math.huge
      if single_group and tonumber(single_group.id) < turn then
        members[#members + 1], list_indices[#members + 1] = single_group.name, single_group.index
        next_single = next_single + 1
      elseif turn < last_known_turn then
        members[#members + 1] = scored_members[next_scored]
        next_scored = next_scored + 2
      else
        break
      end
    end
    local member_count = #members
    return members, member_count < count and all_are_read, function(first_kept)
      local kept_index = single_groups[next_single] and single_groups[next_single].index or read_count + 1
      for i = member_count, first_kept, -1 do kept_index = list_indices[i] or kept_index end
      redis.call('LTRIM', SINGLE_TURNS, kept_index - 1, -1)
    end
  end

  -- Writes the changed groups. Groups that get a turn go to the tail of `turns` with equal scores, so these groups stand in the order
  -- of their names, after the messages without a group. The members of `served`, which have just had a turn and get another turn,
  -- come after these groups. The function returns whether a wake-up is necessary: there is a turn now, and there was none before.
  function groups.write(served)
    if groups.unfinished == 0 and not meta.grouped and #changed_groups == 0 then return false end
    write_new_rest()
    local written_texts, gone_names, joining_groups, leaving_groups = {}, {}, {}, {}
    local max_places = groups.max_places()
    local next_turn, any_was_single = string.format('%d', last_turn + 1), false
    for _, group in ipairs(changed_groups) do
      local name, group_text = group.name, group.head or ''
      if group.others > 0 then group_text = group_text .. group.others end
      if group.places > 0 then group_text = group_text .. '/' .. group.places end
      local single_id = group.stored and #group.stored == ID_LENGTH and group.stored
      any_was_single = any_was_single or single_id
      local stays_single = single_id and group_text == PLAIN_POSITION_START .. single_id
      if group_text == '' then
        if group.stored then gone_names[#gone_names + 1] = name end
      elseif group_text ~= group.stored and not stays_single then
        written_texts[#written_texts + 1], written_texts[#written_texts + 2] = name, group_text
      end
      groups.ready = groups.ready + (group.head and group.others + 1 or 0) - group.ready_before
      if not group.head or group.places >= max_places then
        leaving_groups[#leaving_groups + 1] = name
      elseif not group.is_served and not stays_single then
        joining_groups[#joining_groups + 1], joining_groups[#joining_groups + 2] = single_id or next_turn, name
      end
    end
    if #written_texts > 0 then redis.call('HSET', GROUPS, unpack(written_texts)) end
    if #gone_names > 0 then redis.call('HDEL', GROUPS, unpack(gone_names)) end
    groups_by_name, changed_groups = {}, {}
    if groups.unfinished <= 0 then
      redis.call('DEL', TURNS, SINGLE_TURNS)
      redis.call('HDEL', META, 'grouped', 'ready', 'turn', 'regrouping')
      if meta.grouped then redis.call('HSET', META, 'layout', KNOWN_LAYOUT) end
      meta.grouped, meta.ready, meta.turn, meta.regrouping, groups.ready, last_turn = nil, nil, nil, nil, 0, 0
      return false
    end

    local turns_existed = redis.call('EXISTS', TURNS) == 1
    if not groups.is_plain_ready() then
      leaving_groups[#leaving_groups + 1] = ''
    elseif not (served and served['']) then
      joining_groups[#joining_groups + 1], joining_groups[#joining_groups + 2] = next_turn, ''
    end
    if #joining_groups > 0 then last_turn = last_turn + 1 end
    local served_entries = {}
    for _, name in ipairs(served or {}) do
      last_turn = last_turn + 1
      served_entries[#served_entries + 1], served_entries[#served_entries + 2] = string.format('%d', last_turn), name
    end
    if #leaving_groups > 0 and turns_existed then redis.call('ZREM', TURNS, unpack(leaving_groups)) end
    if #joining_groups > 0 then redis.call('ZADD', TURNS, 'NX', unpack(joining_groups)) end
    if #served_entries > 0 then redis.call('ZADD', TURNS, unpack(served_entries)) end
    redis.call('HSET', META, 'layout', GROUPED_LAYOUT, 'grouped', string.format('%d', groups.unfinished),
      'ready', string.format('%d', groups.ready), 'turn', string.format('%d', last_turn))
    meta.grouped, meta.ready, meta.turn = groups.unfinished, groups.ready, last_turn
    return #joining_groups + #served_entries > 0 and not (turns_existed or any_was_single or groups.drop_stale_turns())
  end

  -- After a change of `groups.concurrency`, gives turns to groups that now have a free place, and removes the turns of groups without
  -- a free place; about a thousand groups per call. The field `regrouping` of `meta` is the cursor for the next call. The function
  -- returns whether a wake-up is necessary.
  function groups.regroup(cursor)
    local scan_page = redis.call('HSCAN', GROUPS, cursor, 'COUNT', MAX_MESSAGES)
    local names = {}
    for i = 1, #scan_page[2], 2 do names[#names + 1] = scan_page[2][i] end
    groups.load(names)
    for _, name in ipairs(names) do groups.changed(name) end
    if scan_page[1] ~= '0' then
      meta.regrouping = scan_page[1]
      redis.call('HSET', META, 'regrouping', scan_page[1])
    elseif meta.regrouping then
      meta.regrouping = nil
      redis.call('HDEL', META, 'regrouping')
    end
    return groups.write()
  end
end

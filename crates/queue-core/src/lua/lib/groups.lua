-- groups: keeps the messages of each group in order, bounds how many of them are active, and gives the groups turns.
--
-- A ready message has a position in its group, a text of three parts: 0 if the message was leased before, else 1; its priority as
-- seven digits; its id. The message with the smallest position is leased first. A message takes a place of its group when it is
-- leased, and keeps it while it is active, in back-off, or released with a pause or a hold key.
-- The hash `groups` has for each group the first position and how many more messages are ready, if any is ready, and then, if any
-- place is taken, a slash and the number of taken places. A group with only one message, which has priority 0 and was never leased,
-- is stored as the message's id alone; in a queue with many groups most groups are stored so. The sorted set `group_rest` has all
-- ready messages of groups except each group's first one, as group, tab and position.
-- A group stands in `turns` if the group has a ready message and a free place; '' stands in `turns` for the messages without a group.
-- The field `grouped` of `meta` counts the unfinished messages with a group. In a queue without unfinished messages with a group,
-- `grouped` is absent, and no function of groups.lua runs a command of Redis. The field `ready` of `meta` counts the ready messages
-- with a group. The field `turn` of `meta` is the last score given in `turns`.
-- The functions of groups.lua change groups only in the memory of the script. A script calls `groups.write` before it reads `turns`,
-- and at its end.
-- KEYS meta waiting prioritized removed groups group_rest turns purged_groups
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

  -- Writes the changed groups. Groups that get a turn go to the tail of `turns` with equal scores, so these groups stand in the order
  -- of their names, after the messages without a group. The members of `served`, which have just had a turn and get another turn,
  -- come after these groups. The function returns whether a wake-up is necessary: there is a turn now, and there was none before.
  function groups.write(served)
    if groups.unfinished == 0 and not meta.grouped and #changed_groups == 0 then return false end
    write_new_rest()
    local written_texts, gone_names, joining_groups, leaving_groups = {}, {}, {}, {}
    local max_places = groups.max_places()
    local next_turn = string.format('%d', last_turn + 1)
    for _, group in ipairs(changed_groups) do
      local name, group_text = group.name, group.head or ''
      if group.others > 0 then group_text = group_text .. group.others end
      if group.places > 0 then group_text = group_text .. '/' .. group.places end
      if #group_text == POSITION_LENGTH and string.sub(group_text, 1, POSITION_LENGTH - ID_LENGTH) == PLAIN_POSITION_START then
        group_text = string.sub(group_text, POSITION_LENGTH - ID_LENGTH + 1)
      end
      if group_text == '' then
        if group.stored then gone_names[#gone_names + 1] = name end
      elseif group_text ~= group.stored then
        written_texts[#written_texts + 1], written_texts[#written_texts + 2] = name, group_text
      end
      groups.ready = groups.ready + (group.head and group.others + 1 or 0) - group.ready_before
      if not group.head or group.places >= max_places then
        leaving_groups[#leaving_groups + 1] = name
      elseif not group.is_served then
        joining_groups[#joining_groups + 1], joining_groups[#joining_groups + 2] = next_turn, name
      end
    end
    if #written_texts > 0 then redis.call('HSET', GROUPS, unpack(written_texts)) end
    if #gone_names > 0 then redis.call('HDEL', GROUPS, unpack(gone_names)) end
    groups_by_name, changed_groups = {}, {}
    if groups.unfinished <= 0 then
      redis.call('DEL', TURNS)
      redis.call('HDEL', META, 'grouped', 'ready', 'turn', 'regrouping')
      if meta.grouped then redis.call('HSET', META, 'layout', KNOWN_LAYOUT) end
      meta.grouped, meta.ready, meta.turn, meta.regrouping, groups.ready, last_turn = nil, nil, nil, nil, 0, 0
      return false
    end

    local had_any_turn = redis.call('EXISTS', TURNS) == 1
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
    if #leaving_groups > 0 and had_any_turn then redis.call('ZREM', TURNS, unpack(leaving_groups)) end
    if #joining_groups > 0 then redis.call('ZADD', TURNS, 'NX', unpack(joining_groups)) end
    if #served_entries > 0 then redis.call('ZADD', TURNS, unpack(served_entries)) end
    redis.call('HSET', META, 'layout', GROUPED_LAYOUT, 'grouped', string.format('%d', groups.unfinished),
      'ready', string.format('%d', groups.ready), 'turn', string.format('%d', last_turn))
    meta.grouped, meta.ready, meta.turn = groups.unfinished, groups.ready, last_turn
    return not had_any_turn and #joining_groups + #served_entries > 0
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

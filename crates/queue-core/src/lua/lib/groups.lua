-- groups: keeps the messages of each group in order, bounds how many of them are active, and gives the groups turns.
--
-- A ready message has a position in its group: 0 if it was leased before, else 1; its priority as seven digits; its id. The
-- smallest position goes first. A message takes a place of its group when it is leased, and keeps it while it is active, in
-- back-off, or released with a pause or a hold key.
-- `groups` has for each group the first position and how many more messages are ready, if any is ready, and then, if any place is
-- taken, a slash and the number of taken places. A group with only one message, which has priority 0 and was never leased, is
-- stored as the message's id alone; in a queue with many groups most groups are so. `group_rest` has the other ready messages as
-- group, tab and position.
-- A group stands in `turns` if the group has a ready message and a free place; '' stands in `turns` for the messages without a group.
-- The field `grouped` of `meta` counts the unfinished messages with a group. In a queue without such messages this field is absent,
-- and no function of this fragment runs a command. The field `ready` of `meta` counts the ready messages with a group. The field
-- `turn` of `meta` is the last score given in `turns`.
-- The functions change groups in memory. A script calls `groups.write` before it reads `turns`, and at its end.
-- KEYS meta waiting prioritized removed groups group_rest turns purged_groups
-- USES meta fields
local groups = {}
do
  local POSITION, ID, BEFORE_ID = 22, 14, '12097152'
  local by_name, changed, new_rest = {}, {}, {}
  local turn = tonumber(meta.turn) or 0

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
  local function parse(text)
    if not text then return nil, 0, 0 end
    if #text == ID then return BEFORE_ID .. text, 0, 0 end
    local ready_text, places = string.match(text, '^(%d*)/?(%d*)$')
    if not ready_text then return nil, 0, 0 end -- Drover did not write this value.
    local head = #ready_text >= POSITION and string.sub(ready_text, 1, POSITION) or nil
    return head, tonumber(string.sub(ready_text, POSITION + 1)) or 0, tonumber(places) or 0
  end

  -- Moves the places of groups from `purged_groups` to the groups. While a purge is unfinished, `purged_groups` still has the places
  -- of each group that has not changed since the purge began.
  local function take_purged_places(names)
    local stored_texts = redis.call('HMGET', PURGED_GROUPS, unpack(names))
    for i, name in ipairs(names) do
      local head, _, places = parse(stored_texts[i])
      if places > 0 then
        groups.changed(name).places = places
        if head then redis.call('HSET', PURGED_GROUPS, name, head) else redis.call('HDEL', PURGED_GROUPS, name) end
      end
    end
  end

  -- Reads the groups with these names.
  function groups.load(names)
    local missing_names = {}
    for _, name in ipairs(names) do
      if not by_name[name] then
        by_name[name] = {}
        missing_names[#missing_names + 1] = name
      end
    end
    if #missing_names == 0 then return end
    local stored, unknown = redis.call('HMGET', GROUPS, unpack(missing_names)), {}
    for i, name in ipairs(missing_names) do
      local group = by_name[name]
      group.name, group.stored = name, stored[i]
      group.head, group.others, group.places = parse(stored[i])
      group.ready_before = group.head and group.others + 1 or 0
      if not stored[i] then unknown[#unknown + 1] = name end
    end
    if meta.purged_to and #unknown > 0 then take_purged_places(unknown) end
  end

  function groups.load_of(options)
    local names = {}
    for i = 1, #options do names[#names + 1] = groups.key_of(options[i]) end
    if #names > 0 then groups.load(names) end
  end

  function groups.changed(name)
    if not by_name[name] then groups.load({ name }) end
    local group = by_name[name]
    if not group.is_changed then
      group.is_changed = true
      changed[#changed + 1] = group
    end
    return group
  end

  local function write_new_rest()
    if #new_rest > 0 then redis.call('ZADD', GROUP_REST, unpack(new_rest)) end
    new_rest = {}
  end

  -- Returns up to `count` members of `group_rest` of a group, after the first `skipped`.
  function groups.rest_of(name, skipped, count)
    write_new_rest()
    -- In byte order all members of a group lie between `name\t` and `name\n`.
    return redis.call('ZRANGE', GROUP_REST, '[' .. name .. '\t', '(' .. name .. '\n', 'BYLEX', 'LIMIT', skipped, count)
  end

  -- Makes a message of a group ready. A message that was leased before goes before the others, and frees its place.
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
    new_rest[#new_rest + 1] = '0'
    new_rest[#new_rest + 1] = name .. '\t' .. position
  end

  -- Removes a ready message of a group.
  function groups.remove(name, id, priority)
    local group = groups.changed(name)
    local place_text = string.format('%07d', priority + 2097152) .. id
    if group.head and string.sub(group.head, 2) == place_text then
      local first_of_rest = group.others > 0 and groups.rest_of(name, 0, 1)[1]
      if first_of_rest then redis.call('ZREM', GROUP_REST, first_of_rest) end
      group.head = first_of_rest and string.sub(first_of_rest, -POSITION) or nil
      group.others = first_of_rest and group.others - 1 or 0
    else
      write_new_rest()
      group.others = group.others - redis.call('ZREM', GROUP_REST, name .. '\t0' .. place_text, name .. '\t1' .. place_text)
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

  -- Counts messages with these options, which hold no place of a group: `by` is 1 if the messages were added as unfinished messages,
  -- and -1 if unfinished messages have finished or were forgotten.
  function groups.tally(options, by)
    if by < 0 and groups.unfinished == 0 then return end
    for i = 1, #options do
      if groups.key_of(options[i]) then groups.unfinished = groups.unfinished + by end
    end
  end

  -- Whether a message without a group is ready.
  function groups.is_plain_ready()
    local waiting = redis.call('LLEN', WAITING)
    if redis.call('EXISTS', PRIORITIZED, REMOVED) == 0 then return waiting > 0 end
    return redis.call('EXISTS', PRIORITIZED) == 1 or waiting > redis.call('SCARD', REMOVED)
  end

  -- Writes the changed groups. Groups that get a turn go to the tail of `turns` with equal scores, so these groups stand in the order
  -- of their names, after the messages without a group. The members of `served`, which have just had a turn and get another turn,
  -- come after these groups. The function returns whether a wake-up is necessary: there is a turn now, and there was none before.
  function groups.write(served)
    if groups.unfinished == 0 and not meta.grouped and #changed == 0 then return false end
    write_new_rest()
    local written_texts, gone_names, joining_groups, leaving_groups = {}, {}, {}, {}
    local limit = groups.max_places()
    local next_turn = string.format('%d', turn + 1)
    for _, group in ipairs(changed) do
      local name, text = group.name, group.head or ''
      if group.others > 0 then text = text .. group.others end
      if group.places > 0 then text = text .. '/' .. group.places end
      if #text == POSITION and string.sub(text, 1, POSITION - ID) == BEFORE_ID then text = string.sub(text, POSITION - ID + 1) end
      if text == '' then
        if group.stored then gone_names[#gone_names + 1] = name end
      elseif text ~= group.stored then
        written_texts[#written_texts + 1], written_texts[#written_texts + 2] = name, text
      end
      groups.ready = groups.ready + (group.head and group.others + 1 or 0) - group.ready_before
      if not group.head or group.places >= limit then
        leaving_groups[#leaving_groups + 1] = name
      elseif not group.is_served then
        joining_groups[#joining_groups + 1], joining_groups[#joining_groups + 2] = next_turn, name
      end
    end
    if #written_texts > 0 then redis.call('HSET', GROUPS, unpack(written_texts)) end
    if #gone_names > 0 then redis.call('HDEL', GROUPS, unpack(gone_names)) end
    by_name, changed = {}, {}
    if groups.unfinished <= 0 then
      redis.call('DEL', TURNS)
      redis.call('HDEL', META, 'grouped', 'ready', 'turn', 'regrouping')
      if meta.grouped then redis.call('HSET', META, 'layout', KNOWN_LAYOUT) end
      meta.grouped, meta.ready, meta.turn, meta.regrouping, groups.ready, turn = nil, nil, nil, nil, 0, 0
      return false
    end

    local had_turns = redis.call('EXISTS', TURNS) == 1
    if not groups.is_plain_ready() then
      leaving_groups[#leaving_groups + 1] = ''
    elseif not (served and served['']) then
      joining_groups[#joining_groups + 1], joining_groups[#joining_groups + 2] = next_turn, ''
    end
    if #joining_groups > 0 then turn = turn + 1 end
    local groups_with_turn = {}
    for _, name in ipairs(served or {}) do
      turn = turn + 1
      groups_with_turn[#groups_with_turn + 1], groups_with_turn[#groups_with_turn + 2] = string.format('%d', turn), name
    end
    if #leaving_groups > 0 and had_turns then redis.call('ZREM', TURNS, unpack(leaving_groups)) end
    if #joining_groups > 0 then redis.call('ZADD', TURNS, 'NX', unpack(joining_groups)) end
    if #groups_with_turn > 0 then redis.call('ZADD', TURNS, unpack(groups_with_turn)) end
    redis.call('HSET', META, 'layout', GROUPED_LAYOUT, 'grouped', string.format('%d', groups.unfinished),
      'ready', string.format('%d', groups.ready), 'turn', string.format('%d', turn))
    meta.grouped, meta.ready, meta.turn = groups.unfinished, groups.ready, turn
    return not had_turns and #joining_groups + #groups_with_turn > 0
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

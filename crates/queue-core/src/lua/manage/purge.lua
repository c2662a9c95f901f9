#!lua flags=allow-oom
-- purge: forgets the messages that are in one state when it begins, and none that is posted after; a step of it.
-- KEYS      meta seq waiting prioritized delayed completed failed removed held blocking erased purged purged_prioritized purged_removed
-- USES      clock instants places wake watch trim forget_purged failed
-- ARGV      epoch; state (any but active); the cut-off and the place that the step before answered ('' at first)
-- Returns   how many were forgotten, or are now bound to be; the cut-off: what is purged goes up to it; the place to go on from ('': the purge is over).
--           Or the error EPOCH
-- Complexity O(1,000 · log N)
if redis.call('HGET', META, 'epoch') ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue is not the one that was declared')
end
local state, cut, place = ARGV[2], ARGV[3], ARGV[4]
local forgotten = 0

local function forget_of(key, ids, members)
  if #ids == 0 then return end
  redis.call('ZREM', key, unpack(members or ids))
  forget_messages(ids)
  forgotten = forgotten + #ids
end

-- A message that was posted after the purge began has a later id.
local function is_meant(id)
  return id <= cut
end

local function purge_delayed()
  if cut == '' then cut = redis.call('GET', SEQ) or '0' end
  local found = places.members_from(DELAYED, place, MAX_MESSAGES)
  local ids = {}
  for i = 1, #found, 2 do
    if is_meant(found[i]) then ids[#ids + 1] = found[i] end
  end
  if #ids > 0 and redis.call('SREM', BLOCKING, unpack(ids)) > 0 then wake_now() end
  forget_of(DELAYED, ids)
  return #found == 2 * MAX_MESSAGES and places.of(found[#found - 1], found[#found]) or ''
end

local function purge_held()
  if cut == '' then cut = redis.call('GET', SEQ) or '0' end
  local found = redis.call('ZRANGE', HELD, place == '' and '-' or '(' .. place, '+', 'BYLEX', 'LIMIT', 0, MAX_MESSAGES)
  local ids, members = {}, {}
  for _, member in ipairs(found) do
    local id = string.match(member, '\t(%d+)\t?%d*$')
    if is_meant(id) then
      ids[#ids + 1] = id
      members[#members + 1] = member
    end
  end
  forget_of(HELD, ids, members)
  return #found == MAX_MESSAGES and found[#found] or ''
end

-- The cut-off is the last id and the instant (ms) then. The purge may end a little early where others fail at that instant.
local function purge_failed()
  if cut == '' then cut = (redis.call('GET', SEQ) or '0') .. ':' .. now_text end
  local last_id, instant = string.match(cut, '^(%d+):(%d+)$')
  local ids = {}
  local found = failed_up_to(instant, MAX_MESSAGES)
  for _, id in ipairs(found) do
    if id <= last_id then ids[#ids + 1] = id end
  end
  forget_of(FAILED, ids)
  return #ids > 0 and #found == MAX_MESSAGES and 'more' or ''
end

-- The cut-off is a place in the list, counted since the queue exists.
local function purge_completed()
  local trimmed = tonumber(redis.call('HGET', META, 'trimmed')) or 0
  if cut == '' then cut = string.format('%d', trimmed + redis.call('LLEN', COMPLETED)) end
  local k = math.min(MAX_MESSAGES, tonumber(cut) - trimmed, redis.call('LLEN', COMPLETED))
  if k <= 0 then return '' end
  local found, ids, gone = pop_completed(k), {}, {}
  for i, is_gone in ipairs(redis.call('SMISMEMBER', ERASED, unpack(found))) do
    local those = is_gone == 1 and gone or ids
    those[#those + 1] = found[i]
  end
  if #gone > 0 then redis.call('SREM', ERASED, unpack(gone)) end
  if #ids > 0 then forget_messages(ids) end
  forgotten = #ids
  return k == MAX_MESSAGES and 'more' or ''
end

-- All of the waiting list is taken aside at once, so that nothing that joins it later is meant. The cut-off is the last
-- id then.
local function purge_waiting()
  if cut == '' then
    if purged_to then
      -- An earlier purge comes first.
      forget_purged()
      return 'begin'
    end
    if redis.call('EXISTS', WAITING, PRIORITIZED) == 0 then return '' end
    forgotten = redis.call('LLEN', WAITING) - redis.call('SCARD', REMOVED) + redis.call('ZCARD', PRIORITIZED)
    cut = redis.call('GET', SEQ) or '0'
    purged_to = cut
    redis.call('HSET', META, 'purged_to', cut)
    for from, to in pairs({ [WAITING] = PURGED, [PRIORITIZED] = PURGED_PRIORITIZED, [REMOVED] = PURGED_REMOVED }) do
      if redis.call('EXISTS', from) == 1 then redis.call('RENAME', from, to) end
    end
    -- If this process goes on no more, another one does.
    wake_at(now + 1000)
  end
  -- Others may have gone on with it, and begun another one.
  if purged_to == cut then forget_purged() end
  return purged_to == cut and 'more' or ''
end

local steps = {
  held = purge_held, delayed = purge_delayed, waiting = purge_waiting, completed = purge_completed, failed = purge_failed,
}
local go_on_from = steps[state]()
return { forgotten, cut, go_on_from }

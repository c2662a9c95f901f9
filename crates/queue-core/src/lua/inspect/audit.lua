#!lua flags=no-writes
-- audit: finds the keys that contain each message, for the check that each message is in exactly one state.
-- KEYS      messages options waiting prioritized delayed leased runs completed failed outcomes removed held expiring blocking cancelling progress erased signalled purged purged_prioritized purged_removed groups group_rest purged_groups purged_group_rest
-- USES      fields held
-- ARGV      'list' to search the lists as well (slow: O(length) for each id), or 'index'; then ids. Or 'held', then members of `held`
-- Returns   for each id the names of all keys that contain it (the name of a list once for each occurrence; `grouped` for
--           `groups` or `group_rest`, `purged_grouped` for the same keys after a purge), and `token` if its run has the token
--           of a live lease; joined by spaces. 'held': for each member 1 if `held` has it although its message is not held so, else 0
-- Complexity O(ids · log N); with 'list' O(ids · N)
if ARGV[1] == 'held' then
  local are_wrong = {}
  for i = 2, #ARGV do
    local id = string.match(ARGV[i], '^[^\t]*\t(%d+)') or ''
    local is_right = held_member(id, redis.call('HGET', OPTIONS, id)) == ARGV[i]
    are_wrong[i - 1] = not is_right and redis.call('ZSCORE', HELD, ARGV[i]) and 1 or 0
  end
  return are_wrong
end

local hashes = {
  messages = MESSAGES, options = OPTIONS, outcomes = OUTCOMES, runs = RUNS, progress = PROGRESS, signalled = SIGNALLED,
}
local sorted_sets = {
  prioritized = PRIORITIZED, delayed = DELAYED, leased = LEASED, failed = FAILED, expiring = EXPIRING,
  purged_prioritized = PURGED_PRIORITIZED,
}
local state_sets = {
  removed = REMOVED, blocking = BLOCKING, cancelling = CANCELLING, erased = ERASED, purged_removed = PURGED_REMOVED,
}
local lists = ARGV[1] == 'list' and { waiting = WAITING, purged = PURGED, completed = COMPLETED } or {}
-- Returns whether a message is ready in its group: the hash `heads` or the sorted set `rest` then has the message's position, which
-- ends with its id.
local function is_in_group(id, options, heads, rest)
  local group = field(options, 'g')
  if not group then return false end
  local stored_head = redis.call('HGET', heads, group) or ''
  if stored_head == id or string.sub(stored_head, 9, 22) == id then return true end
  local priority_and_id = string.format('%07d', (tonumber(field(options, 'p')) or 0) + 2097152) .. id
  for _, score in ipairs(redis.call('ZMSCORE', rest, group .. '\t0' .. priority_and_id, group .. '\t1' .. priority_and_id)) do
    if score then return true end
  end
  return false
end
local reply = {}
for i = 2, #ARGV do
  local id, key_names = ARGV[i], {}
  local function add_key_if(key_name, is_present)
    if is_present then key_names[#key_names + 1] = key_name end
  end
  for key_name, key in pairs(hashes) do add_key_if(key_name, redis.call('HEXISTS', key, id) == 1) end
  for key_name, key in pairs(sorted_sets) do add_key_if(key_name, redis.call('ZSCORE', key, id)) end
  for key_name, key in pairs(state_sets) do add_key_if(key_name, redis.call('SISMEMBER', key, id) == 1) end
  for key_name, key in pairs(lists) do
    for _ = 1, #redis.call('LPOS', key, id, 'COUNT', 0) do add_key_if(key_name, true) end
  end
  add_key_if('token', string.match(redis.call('HGET', RUNS, id) or '', '^[^!\t]'))
  local options = redis.call('HGET', OPTIONS, id)
  add_key_if('held', held_member(id, options))
  add_key_if('grouped', is_in_group(id, options, GROUPS, GROUP_REST))
  add_key_if('purged_grouped', is_in_group(id, options, PURGED_GROUPS, PURGED_GROUP_REST))
  reply[i - 1] = table.concat(key_names, ' ')
end
return reply

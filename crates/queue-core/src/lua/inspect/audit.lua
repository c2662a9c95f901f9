#!lua flags=no-writes
-- audit: in which places messages stand, for the check that each stands in exactly one.
-- KEYS      messages options waiting prioritized delayed leased runs completed failed outcomes removed expiring blocking cancelling progress erased signalled purged purged_prioritized purged_removed
-- USES      held
-- ARGV      'list' to search the lists as well (slow: O(length) for each id), or 'index'; then ids
-- Returns   for each id the names of all places where it stands, joined by spaces
-- Complexity O(ids · log N); with 'list' O(ids · N)
local hashes = {
  messages = MESSAGES, options = OPTIONS, outcomes = OUTCOMES, runs = RUNS, progress = PROGRESS, signalled = SIGNALLED,
}
local sorted_sets = {
  prioritized = PRIORITIZED, delayed = DELAYED, leased = LEASED, failed = FAILED, expiring = EXPIRING,
  purged_prioritized = PURGED_PRIORITIZED,
}
local sets = {
  removed = REMOVED, blocking = BLOCKING, cancelling = CANCELLING, erased = ERASED, purged_removed = PURGED_REMOVED,
}
local lists = ARGV[1] == 'list' and { waiting = WAITING, purged = PURGED, completed = COMPLETED } or {}
local reply = {}
for i = 2, #ARGV do
  local id, places = ARGV[i], {}
  local function stands(place, there)
    if there then places[#places + 1] = place end
  end
  for place, key in pairs(hashes) do stands(place, redis.call('HEXISTS', key, id) == 1) end
  for place, key in pairs(sorted_sets) do stands(place, redis.call('ZSCORE', key, id)) end
  for place, key in pairs(sets) do stands(place, redis.call('SISMEMBER', key, id) == 1) end
  for place, key in pairs(lists) do
    for _ = 1, #redis.call('LPOS', key, id, 'COUNT', 0) do stands(place, true) end
  end
  stands('token', string.match(redis.call('HGET', RUNS, id) or '', '^[^!\t]'))
  stands('held', held_member(id, redis.call('HGET', OPTIONS, id)))
  reply[i - 1] = table.concat(places, ' ')
end
return reply

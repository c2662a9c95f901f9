#!lua flags=no-writes
-- audit: in which places messages stand, for the check that each stands in exactly one.
-- KEYS      messages options waiting prioritized delayed leased runs completed failed outcomes removed expiring blocking cancelling progress erased signalled purged purged_prioritized purged_removed
-- USES      held
-- ARGV      'list' to search the lists as well (slow: O(length) for each id), or 'index'; then ids
-- Returns   for each id the names of all places where it stands, joined by spaces
-- Complexity O(ids · log N); with 'list' O(ids · N)
local lists = ARGV[1] == 'list'
local reply = {}
for i = 2, #ARGV do
  local id, places = ARGV[i], {}
  local function stands(place, there)
    if there then places[#places + 1] = place end
  end
  local options = redis.call('HGET', OPTIONS, id)
  local run = redis.call('HGET', RUNS, id)
  stands('messages', redis.call('HEXISTS', MESSAGES, id) == 1)
  stands('options', options)
  stands('outcomes', redis.call('HEXISTS', OUTCOMES, id) == 1)
  stands('runs', run)
  stands('token', run and string.match(run, '^[^!\t]'))
  stands('prioritized', redis.call('ZSCORE', PRIORITIZED, id))
  stands('delayed', redis.call('ZSCORE', DELAYED, id))
  stands('leased', redis.call('ZSCORE', LEASED, id))
  stands('failed', redis.call('ZSCORE', FAILED, id))
  stands('held', held_member(id, options))
  stands('expiring', redis.call('ZSCORE', EXPIRING, id))
  stands('removed', redis.call('SISMEMBER', REMOVED, id) == 1)
  stands('blocking', redis.call('SISMEMBER', BLOCKING, id) == 1)
  stands('cancelling', redis.call('SISMEMBER', CANCELLING, id) == 1)
  stands('erased', redis.call('SISMEMBER', ERASED, id) == 1)
  stands('purged_prioritized', redis.call('ZSCORE', PURGED_PRIORITIZED, id))
  stands('purged_removed', redis.call('SISMEMBER', PURGED_REMOVED, id) == 1)
  stands('progress', redis.call('HEXISTS', PROGRESS, id) == 1)
  stands('signalled', redis.call('HEXISTS', SIGNALLED, id) == 1)
  if lists then
    for _ = 1, #redis.call('LPOS', WAITING, id, 'COUNT', 0) do stands('waiting', true) end
    for _ = 1, #redis.call('LPOS', PURGED, id, 'COUNT', 0) do stands('purged', true) end
    for _ = 1, #redis.call('LPOS', COMPLETED, id, 'COUNT', 0) do stands('completed', true) end
  end
  reply[i - 1] = table.concat(places, ' ')
end
return reply

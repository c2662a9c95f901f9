#!lua flags=no-writes
-- audit: in which places messages stand, for the check that each stands in exactly one.
-- KEYS      messages options waiting prioritized delayed leased runs completed failed outcomes removed
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
  stands('messages', redis.call('HEXISTS', MESSAGES, id) == 1)
  stands('options', redis.call('HEXISTS', OPTIONS, id) == 1)
  stands('outcomes', redis.call('HEXISTS', OUTCOMES, id) == 1)
  local run = redis.call('HGET', RUNS, id)
  stands('runs', run)
  stands('token', run and string.match(run, '^[^!\t]'))
  stands('prioritized', redis.call('ZSCORE', PRIORITIZED, id))
  stands('delayed', redis.call('ZSCORE', DELAYED, id))
  stands('leased', redis.call('ZSCORE', LEASED, id))
  stands('failed', redis.call('ZSCORE', FAILED, id))
  stands('removed', redis.call('SISMEMBER', REMOVED, id) == 1)
  if lists then
    for _ = 1, #redis.call('LPOS', WAITING, id, 'COUNT', 0) do stands('waiting', true) end
    for _ = 1, #redis.call('LPOS', COMPLETED, id, 'COUNT', 0) do stands('completed', true) end
  end
  reply[i - 1] = table.concat(places, ' ')
end
return reply

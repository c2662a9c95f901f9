-- ready: finds the instant (ms) since which a waiting message has been ready: from its run, that of its last requeue, retry or
-- promotion after a delivery; otherwise, from its options, that of its promotion or signal; otherwise, from its record, its due
-- time or, without one, the instant of its post.
-- KEYS messages options runs
-- USES instants fields run
local function with_ready_now(options)
  return string.gsub(options or '', '\tr%d+', '') .. '\tr' .. now_text
end

local function ready_since(id)
  local run = redis.call('HGET', RUNS, id)
  local ready = run and parse_run(run).ready or tonumber(field(redis.call('HGET', OPTIONS, id), 'r'))
  if ready then return ready end
  local header = string.match(redis.call('HGET', MESSAGES, id) or '', '^([^\n]*)')
  return tonumber(string.match(header, '\td(%d+)') or string.match(header, '^(%d+)'))
end

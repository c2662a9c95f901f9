-- ready: finds the instant (ms) since which a waiting message has been ready. A message's value in `runs` has the instant of its last
-- requeue, its last retry, or its promotion after a delivery. If a message's value in `runs` has no such instant, its value in
-- `options` has the instant of its promotion or signal. If a message's values in `runs` and `options` have no instant since which it is
-- ready, the message has been ready since its due time or, without a due time, since its post. The record of a message has its due time
-- and the time of its post.
-- KEYS messages options runs
-- USES instants fields run
local function with_ready_now(options)
  return string.gsub(options or '', '\tr%d+', '') .. '\tr' .. now_text
end

local function ready_since(id)
  local run = redis.call('HGET', RUNS, id)
  local ready_instant = run and parse_run(run).ready or tonumber(field(redis.call('HGET', OPTIONS, id), 'r'))
  if ready_instant then return ready_instant end
  local header = string.match(redis.call('HGET', MESSAGES, id) or '', '^([^\n]*)')
  return tonumber(string.match(header, '\td(%d+)') or string.match(header, '^(%d+)'))
end

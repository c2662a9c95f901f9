-- ready: finds the instant (ms) since which a waiting message has been ready. The run of the message has the instant of its last
-- requeue, retry, or promotion after a delivery. If the run has no such instant, the options have the instant of the message's
-- promotion or signal. If neither the run nor the options have an instant, the message has been ready since its due time or,
-- without a due time, since its post; both times are in its record.
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

-- ready: the instant (ms) from which on a waiting message has been ready: when it came back, as its run says; else when it
-- was promoted or signalled, as its options say; else when it was due or posted, as its record says.
-- KEYS messages options runs
-- USES instants fields run
local function ready_now(options)
  return string.gsub(options or '', '\tr%d+', '') .. '\tr' .. now_text
end

local function ready_since(id)
  local run = redis.call('HGET', RUNS, id)
  local ready = run and parse_run(run).ready or tonumber(field(redis.call('HGET', OPTIONS, id), 'r'))
  if ready then return ready end
  local header = string.match(redis.call('HGET', MESSAGES, id) or '', '^([^\n]*)')
  return tonumber(string.match(header, '\td(%d+)') or string.match(header, '^(%d+)'))
end

-- state: finds the state of one message.
-- KEYS messages delayed leased outcomes aliases
-- USES purged held

-- Returns the state of a message; nil for a message that does not exist.
local function state_of(id, options)
  if redis.call('HEXISTS', MESSAGES, id) == 0 then return nil end
  local outcome = redis.call('HGET', OUTCOMES, id)
  if outcome then return string.byte(outcome) == 99 and 'completed' or 'failed' end
  if redis.call('ZSCORE', LEASED, id) then return 'active' end
  if redis.call('ZSCORE', DELAYED, id) then return 'delayed' end
  if held_member(id, options) then return 'held' end
  if is_purged(id) then return nil end
  return 'waiting'
end

-- Returns Drover's id of a message, which may be given by the producer's own id.
local function drovers_id(id)
  if string.match(id, '^%d+$') then return id end
  return redis.call('HGET', ALIASES, id) or id
end

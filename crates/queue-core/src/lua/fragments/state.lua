-- state: where one message stands, and how it is taken away from there.

-- nil for a message that is not there.
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

-- Takes a message out of its state, whichever but active. In the lists it stays until it comes up, and is skipped.
local function leave(id, state, options)
  redis.call('ZREM', EXPIRING, id)
  if state == 'waiting' then
    leave_line({ id })
  elseif state == 'delayed' then
    redis.call('ZREM', DELAYED, id)
    -- What backs off in an exclusive queue blocks the line: now it no longer does.
    if redis.call('SREM', BLOCKING, id) == 1 then look_now() end
  elseif state == 'held' then
    redis.call('ZREM', HELD, held_member(id, options))
  elseif state == 'failed' then
    redis.call('ZREM', FAILED, id)
  elseif state == 'completed' then
    redis.call('SADD', ERASED, id)
  end
end

-- Drover's own id of a message that may be asked for by the producer's.
local function drovers_id(id)
  if string.match(id, '^%d+$') then return id end
  return redis.call('HGET', ALIASES, id) or id
end

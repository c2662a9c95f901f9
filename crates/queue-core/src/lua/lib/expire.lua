-- expire: fails held, delayed and waiting messages whose ttl ended before they were started.
-- KEYS options runs expiring
-- USES instants run totals state remove_from_state finish
local EXPIRED_ERROR = '{"code":"expired","message":"not started within its ttl"}'

local function finish_expired(id)
  count('expired')
  finish(id, 'l', redis.call('HGET', RUNS, id) or NEVER_RUN, EXPIRED_ERROR)
end

local function expire(limit)
  local ids = redis.call('ZRANGE', EXPIRING, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
  for _, id in ipairs(ids) do
    local options = redis.call('HGET', OPTIONS, id)
    local state = state_of(id, options)
    remove_from_state(id, state, options)
    if state then finish_expired(id) end
  end
end

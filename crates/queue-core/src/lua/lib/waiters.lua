-- waiters: notifies the clients that wait for a message to finish, when the message has finished or is forgotten.
-- KEYS meta awaited
local function notify_waiters(ids)
  if redis.call('EXISTS', AWAITED) == 0 then return end
  local wait_ends = redis.call('ZMSCORE', AWAITED, unpack(ids))
  for i, id in ipairs(ids) do
    if wait_ends[i] then
      redis.call('PUBLISH', 'drover:finished', string.match(META, '{(.-)}') .. '\t' .. id)
    end
  end
  redis.call('ZREM', AWAITED, unpack(ids))
end

-- wake: notifies idle consumers to call `lease` now. The notification contains no message of the queue.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

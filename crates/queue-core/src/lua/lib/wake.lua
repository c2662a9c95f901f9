-- wake: notifies idle consumers to call `lease` now. The notification carries no message.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

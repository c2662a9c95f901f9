-- wake: notifies idle consumers to call `lease` now. The payload of the notification is 0, the pause (µs) before the call of
-- `lease`.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

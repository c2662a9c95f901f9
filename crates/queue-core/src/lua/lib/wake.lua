-- wake: notifies idle consumers to call `lease` now. The payload of a notification is the pause (µs) before the call of `lease`; for a
-- call now, the pause is 0.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

-- wake: notifies idle consumers to call `lease` now. The payload 0 is the pause before that call, in µs.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

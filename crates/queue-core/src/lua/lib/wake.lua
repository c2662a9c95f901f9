-- wake: notifies idle consumers to call `lease` now. The 0 is the pause before the call, in µs.
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

-- wake: tells idle consumers to look now. A notification says no more than "look".
-- KEYS wake
local function wake_now()
  redis.call('PUBLISH', WAKE, '0')
end

-- wake: tells idle consumers when to look again, as µs from now. A notification says no more than "look".
local function look_now()
  redis.call('PUBLISH', WAKE, '0')
end

-- `watch` is an instant (ms) for which every idle consumer has a timer: as long as it lies ahead, nothing later than
-- it needs a notification, because all look then and learn what comes next.
local function look_at(instant)
  if watch > now and watch <= instant then return end
  watch = instant
  redis.call('HSET', META, 'watch', instant_text(instant))
  redis.call('PUBLISH', WAKE, string.format('%d', instant * 1000 - now_us))
end

-- watch: tells idle consumers at which instant (ms) to look again, as µs from now.
--
-- `watch` is an instant (ms) for which every idle consumer has a timer: as long as it lies ahead, nothing later than
-- it needs a notification, because all look then and learn what comes next.
-- KEYS meta wake
-- USES layout clock instants
local function wake_at(instant)
  if watch > now and watch <= instant then return end
  watch = instant
  redis.call('HSET', META, 'watch', instant_text(instant))
  redis.call('PUBLISH', WAKE, string.format('%d', instant * 1000 - now_us))
end

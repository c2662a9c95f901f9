-- watch: notifies idle consumers at which instant (ms) to call `lease` again, as µs from now.
--
-- `watch` is an instant (ms) for which every idle consumer has a timer. While `watch` is in the future, no notification is needed for
-- work that becomes due after `watch`, because all idle consumers call `lease` at `watch` and then learn when to call `lease` again.
-- KEYS meta wake
-- USES meta clock instants
local watch = tonumber(meta.watch) or 0

local function wake_at(instant)
  if watch > now and watch <= instant then return end
  watch = instant
  redis.call('HSET', META, 'watch', instant_text(instant))
  redis.call('PUBLISH', WAKE, string.format('%d', instant * 1000 - now_us))
end

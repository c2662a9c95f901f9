-- failed: finds the messages that failed up to an instant (ms), oldest first. The result includes messages whose time of failure is
-- later than now, because they failed before Redis's clock stepped back. If Redis's clock has stepped back to before the given instant,
-- `failed_up_to` can't tell failures before and after the instant apart, and returns no messages.
-- KEYS failed
-- USES clock instants
local function failed_up_to(instant, limit)
  if now < tonumber(instant) then return {} end
  local ids = redis.call('ZRANGE', FAILED, '-inf', instant, 'BYSCORE', 'LIMIT', 0, limit)
  if #ids == limit then return ids end
  for _, id in ipairs(redis.call('ZRANGE', FAILED, '(' .. now_text, '+inf', 'BYSCORE', 'LIMIT', 0, limit - #ids)) do
    ids[#ids + 1] = id
  end
  return ids
end

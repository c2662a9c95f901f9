-- failed: the messages that had failed by an instant (ms), oldest first. Those whose instant lies ahead of now failed before
-- Redis's clock stepped back, so they are among them; what has failed since the instant is not.
-- None when the clock has stepped back behind the instant: then nothing tells them apart.
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

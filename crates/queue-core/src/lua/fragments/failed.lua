-- failed: the messages that had failed by an instant (ms), oldest first. Those whose instant lies ahead of now failed before
-- Redis's clock stepped back, so they are among them; what has failed since the instant is not.
local function failed_up_to(instant, limit)
  local ids = redis.call('ZRANGE', FAILED, '-inf', instant, 'BYSCORE', 'LIMIT', 0, limit)
  if #ids == limit then return ids end
  local after = math.max(now, tonumber(instant))
  for _, id in ipairs(redis.call('ZRANGE', FAILED, '(' .. string.format('%d', after), '+inf', 'BYSCORE', 'LIMIT', 0, limit - #ids)) do
    ids[#ids + 1] = id
  end
  return ids
end

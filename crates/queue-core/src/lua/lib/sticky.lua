-- sticky: tells whether a hold key has a sticky signal now. No message is held for a key with a sticky signal.
-- KEYS sticky_until
-- USES clock
local function is_sticky(key)
  local sticky_until = tonumber(redis.call('ZSCORE', STICKY_UNTIL, key))
  return sticky_until and sticky_until > now
end

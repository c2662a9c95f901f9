-- sticky: tells whether a hold key has a sticky signal now. No message is held for a key with a sticky signal.
-- KEYS sticky_until
-- USES clock
local function is_sticky(key)
  local until_when = tonumber(redis.call('ZSCORE', STICKY_UNTIL, key))
  return until_when and until_when > now
end

-- sticky: tells whether a hold key has a sticky signal now: a signal that for a time also releases later messages. While the sticky
-- signal of a key lasts, no message is held for this key.
-- KEYS sticky_until
-- USES clock
local function is_sticky(key)
  local sticky_until = tonumber(redis.call('ZSCORE', STICKY_UNTIL, key))
  return sticky_until and sticky_until > now
end

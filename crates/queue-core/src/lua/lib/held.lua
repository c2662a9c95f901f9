-- held: the member of `held` that a message has: its key, its id, and, if it is delayed as well, when it is due (ms), so
-- that the held ones of a key lie together in the order posted. nil for a message that is not held.
-- KEYS held
-- USES fields
local function held_member(id, options)
  local key = field(options, 'k')
  if not key then return nil end
  local start = '[' .. key .. '\t' .. id
  return redis.call('ZRANGE', HELD, start, start .. '\255', 'BYLEX', 'LIMIT', 0, 1)[1]
end

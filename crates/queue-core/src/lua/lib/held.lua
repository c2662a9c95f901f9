-- held: finds the member of the sorted set `held` for a message: its hold key, a tab, its id, and for a message that has a delay
-- too, a tab and its due time (ms). All members of `held` have the score 0, so the held messages of one key are next to each other
-- in the set, in the order posted. Returns nil for a message that is not held.
-- KEYS held
-- USES fields
local function held_member(id, options)
  local hold_key = field(options, 'k')
  if not hold_key then return nil end
  local range_start = '[' .. hold_key .. '\t' .. id
  return redis.call('ZRANGE', HELD, range_start, range_start .. '\255', 'BYLEX', 'LIMIT', 0, 1)[1]
end

-- extra: how large the error or the signal's data is that comes to a message beside its record, for scripts that answer
-- messages: `largest_extra` of `meta` is the largest so far, unless all are small.
-- KEYS meta
local SMALL = 256
local largest_extra

local function note_extra(bytes)
  if bytes <= SMALL then return end
  largest_extra = largest_extra or tonumber(redis.call('HGET', META, 'largest_extra')) or 0
  if bytes > largest_extra then
    largest_extra = bytes
    redis.call('HSET', META, 'largest_extra', bytes)
  end
end

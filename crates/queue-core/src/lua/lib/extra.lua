-- extra: records the size of the largest error or signal data that a message has beside its record, because scripts that
-- return messages must bound the bytes of their replies. The field `largest_extra` of `meta` is the largest size so far; the
-- field is absent while no size is above `SMALL_EXTRA_BYTES`.
-- KEYS meta
-- USES meta
local record_extra
do
  local SMALL_EXTRA_BYTES = 256
  local largest_extra

  function record_extra(bytes)
    if bytes <= SMALL_EXTRA_BYTES then return end
    largest_extra = largest_extra or tonumber(meta.largest_extra) or 0
    if bytes > largest_extra then
      largest_extra = bytes
      redis.call('HSET', META, 'largest_extra', bytes)
    end
  end
end

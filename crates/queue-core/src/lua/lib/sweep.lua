-- sweep: forgets what has an end of its own, a bounded number a call: waits, own ids of forgotten messages, idempotency keys,
-- sticky signals. Each is a sorted set of ends (ms), some beside a hash of what ends.
-- KEYS taken awaited sticky sticky_until dedup dedup_until
-- USES instants
local ENDING = { { AWAITED }, { TAKEN }, { DEDUP_UNTIL, DEDUP }, { STICKY_UNTIL, STICKY } }

local function sweep(limit)
  for _, keys in ipairs(ENDING) do
    local over = redis.call('ZRANGE', keys[1], '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
    if #over > 0 then
      redis.call('ZREM', keys[1], unpack(over))
      if keys[2] then redis.call('HDEL', keys[2], unpack(over)) end
    end
  end
end

-- When the next of them ends (ms).
local function next_sweep()
  local instant = math.huge
  for _, keys in ipairs(ENDING) do
    local first = redis.call('ZRANGE', keys[1], '0', '0', 'WITHSCORES')
    if first[2] then instant = math.min(instant, tonumber(first[2])) end
  end
  return instant
end

-- sweep: removes entries whose expiry has passed, a bounded number per call: waits of clients, taken own ids of finished messages,
-- idempotency keys, sticky signals. Each kind of entry has a sorted set of expiry instants (ms); some kinds also have a hash of values.
-- KEYS taken awaited sticky sticky_until dedup dedup_until
-- USES instants
local EXPIRY_SETS = { { AWAITED }, { TAKEN }, { DEDUP_UNTIL, DEDUP }, { STICKY_UNTIL, STICKY } }

local function sweep(limit)
  for _, keys in ipairs(EXPIRY_SETS) do
    local expired_members = redis.call('ZRANGE', keys[1], '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit)
    if #expired_members > 0 then
      redis.call('ZREM', keys[1], unpack(expired_members))
      if keys[2] then redis.call('HDEL', keys[2], unpack(expired_members)) end
    end
  end
end

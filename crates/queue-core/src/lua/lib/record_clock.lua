-- record_clock: stores the time in `clock` of `meta`, at most once a second, when a lease is made or extended or the owner of an
-- exclusive queue calls `lease`. When `clock` is later than now, Redis's clock has stepped back.
-- KEYS meta
-- USES meta clock instants
local function record_clock()
  if now - (tonumber(meta.clock) or 0) >= 1000 then
    meta.clock = now
    redis.call('HSET', META, 'clock', now_text)
  end
end

-- record_clock: keeps an instant at most one second before the newest lease was made or extended in `clock` of `meta`. When it
-- is later than now, Redis's clock has stepped back.
-- KEYS meta
-- USES meta clock instants
local function record_clock()
  if now - (tonumber(meta.clock) or 0) >= 1000 then
    meta.clock = now
    redis.call('HSET', META, 'clock', now_text)
  end
end

-- next_change: finds the instants (ms) at which work becomes due although no client sends a request, so that a call of `lease` or
-- maintenance is needed. If no work will become due, each of these functions returns the instant `math.huge`.
-- KEYS delayed leased expiring signals taken awaited sticky_until dedup_until
-- USES meta clock watch

-- Returns the first instant of a sorted set whose scores are instants.
local function first_instant(key)
  local first_member = redis.call('ZRANGE', key, '0', '0', 'WITHSCORES')
  return first_member[2] and tonumber(first_member[2]) or math.huge
end

-- Returns when maintenance is next needed: a message is due or expires, a lease lapses, or the instant `watch` comes; within a
-- second if a purge, a signal or a change of the concurrency of groups is unfinished.
local function next_instant()
  local instant = watch > now and watch or math.huge
  if meta.purged_to or meta.regrouping or redis.call('EXISTS', SIGNALS) == 1 then instant = math.min(instant, now + 1000) end
  return math.min(instant, first_instant(DELAYED), first_instant(LEASED), first_instant(EXPIRING))
end

-- Returns the first expiry of the entries that `sweep` removes.
local function next_sweep()
  if redis.call('EXISTS', AWAITED, TAKEN, DEDUP_UNTIL, STICKY_UNTIL) == 0 then return math.huge end
  return math.min(first_instant(AWAITED), first_instant(TAKEN), first_instant(DEDUP_UNTIL), first_instant(STICKY_UNTIL))
end

-- Converts an instant to the form in which scripts return instants: µs from now, -1 for never.
local function pause_until(instant)
  if instant == math.huge then return -1 end
  return math.max(0, instant * 1000 - now_us)
end

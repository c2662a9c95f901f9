-- limiter: enforces the rate limit with a log of the instants of leases: no window of `duration`, wherever it starts, has more than
-- `max` leases. An entry of the log is "first,last,count": the instants (ms) of its first and last lease, and the number of its
-- leases. Leases within a thousandth of the duration share an entry and count as made at the entry's last instant, so the log of
-- leases has at most about a thousand entries, whatever `max` is.
-- KEYS meta limiter
-- USES meta clock instants
local permitted_leases, record_leases
do
  local function parse_entry(text)
    local first_at, last_at, leases = string.match(text, '^(%d+),(%d+),(%d+)$')
    return tonumber(first_at), tonumber(last_at), tonumber(leases)
  end

  local function parse_limit(text)
    local max_leases, duration = string.match(text, '^{"max":(%d+),"duration":(%d+)}$')
    -- A value of `rate_limit` that Drover did not write sets no limit.
    return tonumber(max_leases) or math.huge, tonumber(duration) or 0
  end

  local function log_leases(duration, leases)
    local newest_entry = redis.call('LINDEX', LIMITER, -1)
    if newest_entry then
      local first_at, _, earlier_leases = parse_entry(newest_entry)
      if now == first_at or (now - first_at) * 1000 < duration then
        redis.call('LSET', LIMITER, -1, first_at .. ',' .. now .. ',' .. earlier_leases + leases)
        return
      end
    end
    redis.call('RPUSH', LIMITER, now_text .. ',' .. now_text .. ',' .. leases)
  end

  -- After Redis's clock has stepped back, leases with a later instant than now count as made now.
  local function move_future_leases_to_now(duration)
    local future_leases = 0
    while true do
      local last_entry = redis.call('LINDEX', LIMITER, -1)
      if not last_entry then break end
      local _, last_at, leases = parse_entry(last_entry)
      if last_at <= now then break end
      redis.call('RPOP', LIMITER)
      future_leases = future_leases + leases
    end
    if future_leases > 0 then log_leases(duration, future_leases) end
  end

  -- Returns how many leases may be made now, and, if none, the instant (ms) at which the next lease may be made.
  function permitted_leases(limit)
    local max_leases, duration = parse_limit(limit)
    local used_leases, opens_at = tonumber(meta.limiter_used) or 0, nil
    move_future_leases_to_now(duration)
    while true do
      local oldest_entry = redis.call('LINDEX', LIMITER, 0)
      if not oldest_entry then
        used_leases = 0
        break
      end
      local _, last_at, leases = parse_entry(oldest_entry)
      if last_at + duration > now then
        opens_at = last_at + duration
        break
      end
      redis.call('LPOP', LIMITER)
      used_leases = used_leases - leases
    end
    meta.limiter_used = used_leases
    redis.call('HSET', META, 'limiter_used', used_leases)
    if used_leases >= max_leases then return 0, opens_at end
    return max_leases - used_leases
  end

  function record_leases(limit, leases)
    local _, duration = parse_limit(limit)
    redis.call('HSET', META, 'limiter_used', meta.limiter_used + leases)
    log_leases(duration, leases)
  end
end

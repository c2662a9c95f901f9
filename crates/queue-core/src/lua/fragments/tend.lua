-- tend: what must happen by itself as time passes, a bounded part a call.
local function tend(random)
  recover(100, random)
  expire(100)
  promote(1000)
end

-- What nobody waits for: done when nothing is handed out.
local function clean()
  trim_completed(1000)
  trim_failed(1000)
  sweep(100)
end

-- When there is next something to tend (ms).
local function next_instant()
  local instant = math.min(next_trim(), next_sweep())
  for _, index in ipairs({ DELAYED, LEASED, EXPIRING }) do
    local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    if first[2] then instant = math.min(instant, tonumber(first[2])) end
  end
  return instant
end

-- An instant as an answer: µs from now, -1 for never.
local function pause_until(instant)
  if instant == math.huge then return -1 end
  return math.max(0, instant * 1000 - now_us)
end

-- clock_step: Redis's clock may step back. Then leases, and the time of an exclusive queue's owner, end further ahead than they
-- were given for. `clock` of `meta` is an instant at most a second before the newest of them was given, so a step shows when
-- it lies ahead of now. Each that ends too late ends after its own duration from now instead.
-- KEYS meta options leased runs
-- USES clock instants settings run places timeout
local function note_clock()
  if now - (tonumber(set.clock) or 0) >= 1000 then
    set.clock = now
    redis.call('HSET', META, 'clock', now_text)
  end
end

-- A bounded number a call, those first that end last: `mending` of `meta` has the instant of the call (ms) and the place to go
-- on from. Until all have been looked at, `clock` stays.
local function mend_after_a_step_back()
  if (tonumber(set.clock) or 0) <= now then
    if set.mending then redis.call('HDEL', META, 'mending') end
    return
  end
  -- After another step back it begins again.
  local since, place = string.match(set.mending or '', '^(%d+) (.*)$')
  if not since or tonumber(since) > now then place = '' end
  local last = places.members_before(LEASED, place, MOST_RUNS)
  local ids, runs, ends = {}, {}, {}
  for i = 1, #last, 2 do ids[#ids + 1] = last[i] end
  local texts = #ids > 0 and redis.call('HMGET', RUNS, unpack(ids)) or {}
  local options = #ids > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
  for i, id in ipairs(ids) do
    local run = parse_run(texts[i])
    local started = math.min(tonumber(run.started) or now, now)
    local latest =
      deadline_of(timeout_of(options[i], run.timeout), started, now + math.max(run.visibility, run.extension or 0))
    if tonumber(last[2 * i]) > latest or started ~= tonumber(run.started) then
      latest = math.min(latest, tonumber(last[2 * i]))
      run.started = started
      runs[#runs + 1], ends[#ends + 1] = id, latest
      runs[#runs + 1], ends[#ends + 1] = format_run(run), id
    end
  end
  if #runs > 0 then
    redis.call('HSET', RUNS, unpack(runs))
    redis.call('ZADD', LEASED, 'XX', unpack(ends))
  end
  local longest = tonumber(set.visibility_timeout)
  if (tonumber(set.owner_until) or 0) > now + longest then
    set.owner_until = now + longest
    redis.call('HSET', META, 'owner_until', set.owner_until)
  end
  if #ids == MOST_RUNS then
    redis.call('HSET', META, 'mending', now_text .. ' ' .. places.of(last[#last - 1], last[#last]))
  else
    set.clock = now
    redis.call('HSET', META, 'clock', now_text)
    redis.call('HDEL', META, 'mending')
  end
end

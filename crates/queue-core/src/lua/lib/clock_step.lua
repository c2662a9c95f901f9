-- clock_step: shortens deadlines after Redis's clock has stepped back: then `clock` of `meta` is later than now, and the deadlines
-- of leases and of an exclusive queue's owner are too far in the future. A lease's deadline that is later than now plus the
-- duration of the lease moves to now plus that duration (earlier if the run's timeout ends before). An owner's deadline that is
-- later than now plus the queue's visibility timeout moves to now plus that timeout.
-- KEYS meta options leased runs
-- USES meta clock instants run cursors timeout
-- Each call checks a bounded number of leases, beginning with the latest deadline. The field `mending` of `meta` has the instant of
-- the last call (ms) and the cursor for the next call. The field `clock` of `meta` keeps its value until all leases have been
-- checked.
local function shorten_deadlines_after_clock_step()
  if (tonumber(meta.clock) or 0) <= now then
    if meta.mending then redis.call('HDEL', META, 'mending') end
    return
  end
  -- If Redis's clock has stepped back again since the last call, the check of the leases begins again.
  local last_call_at, cursor = string.match(meta.mending or '', '^(%d+) (.*)$')
  if not last_call_at or tonumber(last_call_at) > now then cursor = '' end
  local latest_leases = cursors.members_before(LEASED, cursor, MAX_RUNS)
  local ids, runs, deadlines = {}, {}, {}
  for i = 1, #latest_leases, 2 do ids[#ids + 1] = latest_leases[i] end
  local run_texts = #ids > 0 and redis.call('HMGET', RUNS, unpack(ids)) or {}
  local options = #ids > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
  for i, id in ipairs(ids) do
    local run = parse_run(run_texts[i])
    local run_start = math.min(tonumber(run.started) or now, now)
    local max_deadline =
      deadline_of(timeout_of(options[i], run.timeout), run_start, now + math.max(run.visibility, run.extension or 0))
    if tonumber(latest_leases[2 * i]) > max_deadline or run_start ~= tonumber(run.started) then
      max_deadline = math.min(max_deadline, tonumber(latest_leases[2 * i]))
      run.started = run_start
      runs[#runs + 1], deadlines[#deadlines + 1] = id, max_deadline
      runs[#runs + 1], deadlines[#deadlines + 1] = format_run(run), id
    end
  end
  if #runs > 0 then
    redis.call('HSET', RUNS, unpack(runs))
    redis.call('ZADD', LEASED, 'XX', unpack(deadlines))
  end
  local max_owner_timeout = tonumber(meta.visibility_timeout)
  if (tonumber(meta.owner_until) or 0) > now + max_owner_timeout then
    meta.owner_until = now + max_owner_timeout
    redis.call('HSET', META, 'owner_until', meta.owner_until)
  end
  if #ids == MAX_RUNS then
    local next_cursor = cursors.of(latest_leases[#latest_leases - 1], latest_leases[#latest_leases])
    redis.call('HSET', META, 'mending', now_text .. ' ' .. next_cursor)
  else
    meta.clock = now
    redis.call('HSET', META, 'clock', now_text)
    redis.call('HDEL', META, 'mending')
  end
end

-- recover: ends the leases whose deadline has passed. A run that reached its timeout is a failed attempt; a message that was to be
-- cancelled fails. If neither is the case, the lease has lapsed: the lapse is counted, and the message returns to the head of the
-- waiting list, or fails after too many lapses.
-- KEYS options leased runs cancelling
-- USES meta clock instants run totals extra errors finish timeout requeue attempt groups
local function recover(limit, random)
  local ended_leases = redis.call('ZRANGE', LEASED, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit, 'WITHSCORES')
  if #ended_leases == 0 then return end
  local ids = {}
  for i = 1, #ended_leases, 2 do ids[#ids + 1] = ended_leases[i] end
  redis.call('ZREMRANGEBYRANK', LEASED, 0, #ids - 1)
  local run_texts = redis.call('HMGET', RUNS, unpack(ids))
  local options = redis.call('HMGET', OPTIONS, unpack(ids))
  local is_cancelling = redis.call('SMISMEMBER', CANCELLING, unpack(ids))
  redis.call('SREM', CANCELLING, unpack(ids))
  for i, id in ipairs(ids) do
    local finished_before = finished.n
    local run, deadline = parse_run(run_texts[i]), tonumber(ended_leases[2 * i])
    local timeout = timeout_of(options[i], run.timeout)
    if is_cancelling[i] == 1 then
      count('cancelled')
      run.token = ''
      finish(id, 'l', format_run(run), CANCELLED)
    elseif timeout and deadline >= (tonumber(run.started) or 0) + timeout then
      -- Each message gets a different random number, so that messages that timed out together are not retried together.
      fail_attempt(id, format_run(run), options[i], string.format('%.6f', (random + i * 0.618034) % 1),
        string.format('{"code":"timed_out","message":"the run took longer than %d ms"}', timeout))
    else
      count('lapsed')
      run.lapses = run.lapses + 1
      if run.lapses >= tonumber(meta.max_lapses) then
        -- The empty token records that no consumer settled the lease.
        run.token = ''
        finish(id, 'l', format_run(run),
          '{"code":"lease_lapsed","message":"the lease lapsed ' .. run.lapses .. ' times without an answer"}')
      else
        run.token = '!' .. run.token
        add_error(run, run.attempts, now, '{"code":"lease_lapsed","message":"the lease lapsed"}')
        record_extra(#run.error)
        set_ready_at(run, deadline)
        requeue(id, format_run(run), 0, 'head')
      end
    end
    if finished.n > finished_before then groups.leave(options[i]) end
  end
end

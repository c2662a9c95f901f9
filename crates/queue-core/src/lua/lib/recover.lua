-- recover: leases that are over. A run that took as long as it may is a failed attempt; a message that was to be
-- cancelled fails; any other lease has lapsed: that is counted, and its message goes back to the head of the waiting
-- list, or fails for good when it lapsed too often.
-- KEYS options leased runs cancelling
-- USES instants settings run totals finish timeout requeue attempt
local function recover(limit, random)
  local over = redis.call('ZRANGE', LEASED, '-inf', now_text, 'BYSCORE', 'LIMIT', '0', limit, 'WITHSCORES')
  if #over == 0 then return end
  local ids = {}
  for i = 1, #over, 2 do ids[#ids + 1] = over[i] end
  redis.call('ZREMRANGEBYRANK', LEASED, 0, #ids - 1)
  local texts = redis.call('HMGET', RUNS, unpack(ids))
  local options = redis.call('HMGET', OPTIONS, unpack(ids))
  local cancelled = redis.call('SMISMEMBER', CANCELLING, unpack(ids))
  redis.call('SREM', CANCELLING, unpack(ids))
  for i, id in ipairs(ids) do
    local run, deadline = parse_run(texts[i]), tonumber(over[2 * i])
    local timeout = timeout_of(options[i], run.timeout)
    if cancelled[i] == 1 then
      count('cancelled')
      run.token = ''
      finish(id, 'l', format_run(run), CANCELLED)
    elseif timeout and deadline >= (tonumber(run.started) or 0) + timeout then
      -- The delays are spread, so that messages that timed out together are not retried together.
      fail_attempt(id, format_run(run), options[i], string.format('%.6f', (random + i * 0.618034) % 1),
        string.format('{"code":"timed_out","message":"the run took longer than %d ms"}', timeout))
    else
      count('lapsed')
      run.lapses = run.lapses + 1
      if run.lapses >= tonumber(set.max_lapses) then
        -- Nobody settled it.
        run.token = ''
        finish(id, 'l', format_run(run),
          '{"code":"lease_lapsed","message":"the lease lapsed ' .. run.lapses .. ' times without an answer"}')
      else
        run.token = '!' .. run.token
        becomes_ready_at(run, deadline)
        requeue(id, format_run(run), 0, 'head')
      end
    end
  end
end

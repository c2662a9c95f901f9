-- recover: lapsed leases are counted and their messages go back to the head of the line, or fail for good when they
-- lapsed too often.
local function recover(max_lapses, limit)
  local lapsed = redis.call('ZRANGE', LEASED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
  if #lapsed == 0 then return end
  redis.call('ZREMRANGEBYRANK', LEASED, 0, #lapsed - 1)
  redis.call('HINCRBY', META, 'total:lapsed', #lapsed)
  local texts = redis.call('HMGET', RUNS, unpack(lapsed))
  local again, runs = {}, {}
  for i, id in ipairs(lapsed) do
    local run = parse_run(texts[i])
    run.lapses = run.lapses + 1
    if run.lapses >= max_lapses then
      finish(id, 'l', format_run(run),
        '{"code":"lease_lapsed","message":"the lease lapsed ' .. run.lapses .. ' times without an answer"}')
    else
      run.token = '!' .. run.token
      again[#again + 1] = id
      runs[#runs + 1] = id
      runs[#runs + 1] = format_run(run)
    end
  end
  if #again > 0 then
    redis.call('HSET', RUNS, unpack(runs))
    join_head(again)
  end
end

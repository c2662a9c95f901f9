-- promote: delayed messages whose time has come join the tail of the line, by due time, then as posted.
local function promote(limit)
  local due = redis.call('ZRANGE', DELAYED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return end
  redis.call('ZREMRANGEBYRANK', DELAYED, 0, #due - 1)
  join_tail(due)
end

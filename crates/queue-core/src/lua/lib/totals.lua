-- totals: counts how many messages were posted, completed, failed and so on since the queue was created. A script
-- collects the counts and writes all counts once, at its end.
-- KEYS meta
local totals = {}

local function count(name, more)
  totals[name] = (totals[name] or 0) + (more or 1)
end

local function write_totals()
  for name, n in pairs(totals) do
    redis.call('HINCRBY', META, 'total:' .. name, n)
  end
  totals = {}
end

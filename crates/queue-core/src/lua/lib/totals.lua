-- totals: counts how many messages were posted, completed, failed and so on since the queue was created. A script collects the
-- changes of all totals, and writes them once, at its end.
-- KEYS meta
local totals = {}

local function count(name, amount)
  totals[name] = (totals[name] or 0) + (amount or 1)
end

local function write_totals()
  for name, total in pairs(totals) do
    redis.call('HINCRBY', META, 'total:' .. name, total)
  end
  totals = {}
end

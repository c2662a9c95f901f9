-- meta: reads the hash `meta` into the table `meta`. A setting that is missing there has its default; any other missing field is
-- nil.
-- KEYS meta
local meta = DEFAULTS
local stored = redis.call('HGETALL', META)
for i = 1, #stored, 2 do
  meta[stored[i]] = stored[i + 1]
end

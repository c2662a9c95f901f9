-- meta: reads the hash `meta` into the table `meta`. A setting that the hash does not have gets its default; any other field
-- that the hash does not have is nil.
-- KEYS meta
local meta = DEFAULTS
local stored = redis.call('HGETALL', META)
for i = 1, #stored, 2 do
  meta[stored[i]] = stored[i + 1]
end

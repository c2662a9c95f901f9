-- meta: reads the hash `meta` into the table `meta`. A setting that the hash does not have gets its default; any other field
-- that the hash does not have is nil.
-- KEYS meta
local meta = DEFAULTS
local stored_meta = redis.call('HGETALL', META)
for i = 1, #stored_meta, 2 do
  meta[stored_meta[i]] = stored_meta[i + 1]
end

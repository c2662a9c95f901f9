-- settings: reads fields of `meta` into `set`. A setting that is missing there has its default from `DEFAULTS`, which the library
-- writes before this fragment; any other missing field is nil.
-- KEYS meta
local set = {}

local function read_settings(...)
  local names = { ... }
  local values = redis.call('HMGET', META, unpack(names))
  for i, name in ipairs(names) do
    set[name] = values[i] or DEFAULTS[name]
  end
end

-- settings: fields of `meta`; a setting that the queue lacks has its default, another field is nil. `DEFAULTS` stands
-- before this fragment, made of the library's own.
-- KEYS meta
local set = {}

local function read_settings(...)
  local names = { ... }
  local values = redis.call('HMGET', META, unpack(names))
  for i, name in ipairs(names) do
    set[name] = values[i] or DEFAULTS[name]
  end
end

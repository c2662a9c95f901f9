-- configure: settings take other values, '' for the default, and what hangs on them follows. Answers whether any did.
local function configure(fields)
  local changed = {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if (redis.call('HGET', META, name) or '') ~= value then
      changed[name] = true
      if value == '' then redis.call('HDEL', META, name) else redis.call('HSET', META, name, value) end
    end
  end
  if not next(changed) then return false end
  if changed.exclusive then
    -- Nobody has had access yet; and the order of what backs off is not the line's any more.
    redis.call('HDEL', META, 'owner', 'owner_until')
    redis.call('DEL', BLOCKING)
  end
  if changed.rate_limit and redis.call('HEXISTS', META, 'rate_limit') == 0 then
    redis.call('DEL', LIMITER)
    redis.call('HDEL', META, 'limiter_used')
  end
  return true
end

-- signal: releases the held messages of a key: a released message becomes waiting, or delayed if it is not due yet. A signal releases
-- the messages that were held when the signal arrived; `cut` is the last id at that time. While a signal is unfinished, its value in
-- the hash `signals` is `cut`, the last id at the signal's arrival, then a tab and the data for the handlers. After the first step of a
-- signal, a tab and the last released id follow the data. Any call that finds an unfinished signal may continue the signal. A signal
-- releases each message only once, even if a consumer meanwhile leases the message and releases it as held for the same key. A message
-- that was leased before returns to its group as the group's first message. The function `release_held` returns whether the signal is
-- finished.
-- KEYS options delayed held signals signalled
-- USES clock events extra groups waiting_list wake watch ready delivered
local function release_held(key, limit)
  local cut, data = string.match(redis.call('HGET', SIGNALS, key), '^(%d+)\t(.*)$')
  if not cut then
    -- A value of `signals` that Drover did not write is removed.
    redis.call('HDEL', SIGNALS, key)
    return true
  end
  -- A signal's data that contains a tab is a JSON list or object, which does not end with a digit. If digits follow the last tab of a
  -- signal's value in `signals`, they are therefore the last released id.
  local data_before_id, last_id = string.match(data, '^(.*)\t(%d+)$')
  data = data_before_id or data
  if data ~= '' then limit = math.max(1, math.min(limit, math.floor(1048576 / #data))) end
  if groups.unfinished > 0 then limit = math.min(limit, MAX_RUNS) end
  local range_start = last_id and '(' .. key .. '\t' .. last_id .. '\255' or '[' .. key .. '\t'
  local members = redis.call('ZRANGE', HELD, range_start, '[' .. key .. '\t' .. cut .. '\255', 'BYLEX', 'LIMIT', 0, limit)
  if #members > 0 then
    redis.call('ZREM', HELD, unpack(members))
    local ids, dues, ready, delayed, signalled, earliest = {}, {}, {}, {}, {}, math.huge
    for _, member in ipairs(members) do
      local id, due = string.match(member, '\t(%d+)\t?(%d*)$')
      due = tonumber(due) or 0
      ids[#ids + 1] = id
      dues[#ids] = due > now and '\td' .. due or ''
      if due > now then
        delayed[#delayed + 1] = due
        delayed[#delayed + 1] = id
        earliest = math.min(earliest, due)
      else
        ready[#ready + 1] = id
      end
      signalled[#signalled + 1] = id
      signalled[#signalled + 1] = data
    end
    record_events(ids, function(_, i) return 'signalled', dues[i] end)
    if data ~= '' then
      redis.call('HSET', SIGNALLED, unpack(signalled))
      record_extra(#data)
    end
    if #delayed > 0 then
      redis.call('ZADD', DELAYED, unpack(delayed))
      wake_at(earliest)
    end
    if #ready > 0 then
      local options = redis.call('HMGET', OPTIONS, unpack(ready))
      local changed_ids = {}
      for i, id in ipairs(ready) do
        changed_ids[2 * i - 1], changed_ids[2 * i] = id, with_ready_now(options[i])
      end
      redis.call('HSET', OPTIONS, unpack(changed_ids))
      local was_empty = push_tail(ready, find_delivered(ready))
      if groups.write() or was_empty then wake_now() end
    end
    last_id = ids[#ids]
  end
  local is_over = #members < limit
  if is_over then
    redis.call('HDEL', SIGNALS, key)
  else
    redis.call('HSET', SIGNALS, key, cut .. '\t' .. data .. '\t' .. last_id)
  end
  return is_over
end

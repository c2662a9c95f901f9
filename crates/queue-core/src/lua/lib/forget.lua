-- forget: deletes messages and the data that belong to them. An id that the producer chose for a deleted message (its own id) stays
-- taken for a time, or becomes free for another message.
-- KEYS messages options outcomes aliases taken progress signalled
-- USES meta clock instants fields

-- Takes Drover's ids of messages, and returns the ids that the producers chose for these messages (own ids); messages without an own id
-- are left out.
local function own_ids_of(ids)
  local own_ids = {}
  for i, options in ipairs(redis.call('HMGET', OPTIONS, unpack(ids))) do
    local own_id = field(options, 'i')
    -- While purged messages are being forgotten, a newer message may have the same own id.
    if own_id and not (meta.purged_to and redis.call('HGET', ALIASES, own_id) ~= ids[i]) then
      own_ids[#own_ids + 1] = own_id
    end
  end
  return own_ids
end

-- When messages finish, their own ids stay taken for `id_window`, even if the messages are forgotten earlier.
local function keep_own_ids_taken(ids)
  local id_window = tonumber(meta.id_window)
  if id_window == 0 then return end
  local taken_until, taken_ids = instant_text(now + id_window), {}
  for _, own_id in ipairs(own_ids_of(ids)) do
    taken_ids[#taken_ids + 1] = taken_until
    taken_ids[#taken_ids + 1] = own_id
  end
  if #taken_ids > 0 then redis.call('ZADD', TAKEN, unpack(taken_ids)) end
end

-- Deletes everything that belongs to messages, except their runs and their entries in `expiring` and in the keys of states, which
-- the caller deletes. `own_ids_become` is 'taken' (an own id stays taken until the instant in the sorted set `taken`) or 'free'.
local function forget(ids, own_ids_become)
  local any_options_exist = redis.call('HLEN', OPTIONS) > 0
  if any_options_exist and redis.call('HLEN', ALIASES) > 0 then
    local own_ids = own_ids_of(ids)
    if #own_ids > 0 then
      redis.call('HDEL', ALIASES, unpack(own_ids))
      if own_ids_become == 'free' then redis.call('ZREM', TAKEN, unpack(own_ids)) end
    end
  end
  redis.call('HDEL', MESSAGES, unpack(ids))
  redis.call('HDEL', OUTCOMES, unpack(ids))
  if redis.call('EXISTS', PROGRESS, SIGNALLED) > 0 then
    redis.call('HDEL', PROGRESS, unpack(ids))
    redis.call('HDEL', SIGNALLED, unpack(ids))
  end
  if any_options_exist then redis.call('HDEL', OPTIONS, unpack(ids)) end
end

-- epoch: refuses a caller that knows another life of this queue, before anything is written.
local function same_epoch(expected)
  return redis.call('HGET', META, 'epoch') == expected
end
local STALE_EPOCH = redis.error_reply('EPOCH the queue is not the one that was declared')

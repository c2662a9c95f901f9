#!lua flags=allow-oom
-- signal: releases the messages that are held for a key; a bounded number a call.
-- KEYS      seq held signals sticky sticky_until
-- USES      clock settings watch signal
-- ARGV      epoch, key, 'begin' or 'go on', the data for the handlers ('' for none), for how long (ms) the signal sticks ('' not at all)
-- Returns   to 'begin': how many were held, or -1: an earlier signal of that key was still under way and has been
--           moved on, begin again; and 1 if this one is over. To 'go on': 0, and 1 if it is over. Or the error EPOCH
-- Complexity O(messages · log N)
read_settings('epoch')
if set.epoch ~= ARGV[1] then return redis.error_reply('EPOCH the queue is not the one that was declared') end
local key, step, data, sticky_for = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local LIMIT = 1000
if redis.call('HEXISTS', SIGNALS, key) == 1 then
  local is_over = release_some(key, LIMIT) and 1 or 0
  return { step == 'begin' and -1 or 0, is_over }
end
if step ~= 'begin' then return { 0, 1 } end
if sticky_for then
  redis.call('ZADD', STICKY_UNTIL, now + sticky_for, key)
  redis.call('HSET', STICKY, key, data)
  look_at(now + sticky_for)
end
local cut = redis.call('GET', SEQ) or '0'
local held = redis.call('ZLEXCOUNT', HELD, '[' .. key .. '\t', '[' .. key .. '\t' .. cut .. '\255')
if held == 0 then return { 0, 1 } end
redis.call('HSET', SIGNALS, key, cut .. '\t' .. data)
local is_over = release_some(key, LIMIT)
-- If this caller goes on no more, somebody will.
if not is_over then look_at(now + 1000) end
return { held, is_over and 1 or 0 }

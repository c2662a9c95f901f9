#!lua flags=allow-oom
-- signal: releases the messages that are held for a key, a bounded number per call. The script also shows, lists and removes sticky
-- signals.
-- KEYS      seq held signals sticky sticky_until
-- USES      meta clock cursors watch signal sticky
-- ARGV      epoch, key, 'begin' or 'continue', the data for the handlers ('' for none), how long (ms) the signal is sticky
--           ('' for not sticky); or '', key, 'show' or 'forget'; or '', '', 'list', maximum number, cursor (expiry, a colon,
--           key; '' at first)
-- Returns   'begin': how many messages were held, or -1: this call has continued an earlier signal of the key, so call 'begin'
--           again; then 1 if the signal is finished, and the instant (ms) until which the signal is sticky (0: it is not).
--           'continue': 0, 1 if the signal is finished, 0. Or the error EPOCH.
--           'forget': 1 if there was a sticky signal, otherwise 0. 'show' and 'list': 1 if there are more; then for each sticky
--           signal, by expiry: key, expiry (ms), data, how many messages are held for the key; up to 4 MiB
-- Complexity O(messages · log N); show and list O(signals · log N)
-- Returns how many messages with ids up to `up_to` are held for a key; '' counts all.
local function count_held(key, up_to)
  return redis.call('ZLEXCOUNT', HELD, '[' .. key .. '\t', '[' .. key .. '\t' .. up_to .. '\255')
end

local function forget_sticky(key)
  local was_sticky = is_sticky(key)
  redis.call('ZREM', STICKY_UNTIL, key)
  redis.call('HDEL', STICKY, key)
  return was_sticky and 1 or 0
end

local function show_signals(keys, are_more)
  local reply, bytes = { are_more }, 0
  for i, key in ipairs(keys) do
    local data = redis.call('HGET', STICKY, key) or ''
    bytes = bytes + #key + #data
    if bytes > MAX_BYTES and i > 1 then
      reply[1] = 1
      break
    end
    for _, shown in ipairs({ key, redis.call('ZSCORE', STICKY_UNTIL, key), data, count_held(key, '') }) do
      reply[#reply + 1] = shown
    end
  end
  return reply
end

-- Returns a page of the sticky signals. An expired signal stays in `sticky_until` until maintenance removes it, so the list begins
-- with the first expiry after now.
local function list_signals(limit, cursor)
  local start_rank = redis.call('ZCOUNT', STICKY_UNTIL, '-inf', now)
  local ends_at, key = string.match(cursor, '^(%d+):(.*)$')
  if ends_at then start_rank = math.max(start_rank, cursors.count_before(STICKY_UNTIL, ends_at, key, true)) end
  local keys = redis.call('ZRANGE', STICKY_UNTIL, start_rank, start_rank + limit - 1)
  return show_signals(keys, start_rank + #keys < redis.call('ZCARD', STICKY_UNTIL) and 1 or 0)
end

if ARGV[3] == 'show' then return show_signals(is_sticky(ARGV[2]) and { ARGV[2] } or {}, 0) end
if ARGV[3] == 'list' then return list_signals(tonumber(ARGV[4]), ARGV[5]) end
if ARGV[3] == 'forget' then return forget_sticky(ARGV[2]) end

if meta.epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the queue was deleted or created again: declare it and repeat the call')
end
local key, step, data, sticky_for = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local LIMIT = 1000
if redis.call('HEXISTS', SIGNALS, key) == 1 then
  local is_complete = release_held(key, LIMIT) and 1 or 0
  return { step == 'begin' and -1 or 0, is_complete, 0 }
end
if step ~= 'begin' then return { 0, 1, 0 } end
local sticky_until = 0
if sticky_for then
  sticky_until = now + sticky_for
  redis.call('ZADD', STICKY_UNTIL, sticky_until, key)
  redis.call('HSET', STICKY, key, data)
  wake_at(sticky_until)
end
local cut = redis.call('GET', SEQ) or '0'
local held_count = count_held(key, cut)
if held_count == 0 then return { 0, 1, sticky_until } end
redis.call('HSET', SIGNALS, key, cut .. '\t' .. data)
local is_complete = release_held(key, LIMIT)
-- If this caller does not continue the signal, maintenance does.
if not is_complete then wake_at(now + 1000) end
return { held_count, is_complete and 1 or 0, sticky_until }

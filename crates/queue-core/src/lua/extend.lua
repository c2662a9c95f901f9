#!lua flags=allow-oom
-- extend: moves the deadlines of live leases. A lapsed one can't be extended.
-- KEYS      meta leased runs wake
-- USES      clock wake
-- ARGV      the default visibility timeout (ms), the visibility timeout from now ('' for the queue's), then for each
--           lease: id, token
-- Returns   the new deadline (ms), then for each 1: extended, or 0: gone
-- Complexity O(leases · log N)
local timeout = ARGV[2]
if timeout == '' then
  timeout = redis.call('HGET', META, 'visibility_timeout') or ARGV[1]
end
local deadline = now + tonumber(timeout)
local ids = {}
for i = 3, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local runs = redis.call('HMGET', RUNS, unpack(ids))
local deadlines = redis.call('ZMSCORE', LEASED, unpack(ids))
local reply, moved = { deadline }, {}
local shortened = false
for i, id in ipairs(ids) do
  local token = ARGV[2 + 2 * i]
  local held = runs[i] and string.sub(runs[i], 1, #token + 1) == token .. '\t'
  local live = held and tonumber(deadlines[i] or 0) > now
  if live then
    shortened = shortened or deadline < tonumber(deadlines[i])
    moved[#moved + 1] = deadline
    moved[#moved + 1] = id
  end
  reply[#reply + 1] = live and 1 or 0
end
if #moved > 0 then
  redis.call('ZADD', LEASED, 'XX', unpack(moved))
  if shortened then look_at(deadline) end
end
return reply

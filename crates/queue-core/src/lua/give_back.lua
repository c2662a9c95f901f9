#!lua flags=allow-oom
-- give_back: a lease call whose answer was lost left leases that nobody knows. Finds them by the token of the call, a
-- thousand live leases at a time, and puts their messages back at the head of the line as if never delivered.
-- KEYS      meta options waiting prioritized leased runs wake
-- USES      clock fields wake line run
-- ARGV      token, rank in `leased` to go on from
-- Returns   the rank to go on from (-1: at the end), how many were given back
-- Complexity O(1,000 · log N)
local token, rank = ARGV[1], tonumber(ARGV[2])
local ids = redis.call('ZRANGE', LEASED, rank, rank + 999)
if #ids == 0 then return { -1, 0 } end
local runs = redis.call('HMGET', RUNS, unpack(ids))
local mine, kept = {}, {}
for i, id in ipairs(ids) do
  local run = parse_run(runs[i])
  if run.token == token then
    run.token, run.started, run.consumer, run.deliveries = '', '', '', run.deliveries - 1
    mine[#mine + 1] = id
    kept[#kept + 1] = id
    kept[#kept + 1] = format_run(run)
  end
end
if #mine > 0 then
  redis.call('ZREM', LEASED, unpack(mine))
  redis.call('HSET', RUNS, unpack(kept))
  table.sort(mine)
  if join_head(mine) then look_now() end
end
return { #ids < 1000 and -1 or rank + #ids - #mine, #mine }

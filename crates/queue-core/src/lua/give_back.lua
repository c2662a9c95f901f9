#!lua flags=allow-oom
-- give_back: a lease call whose answer was lost left leases that nobody knows. Puts their messages back at the head of
-- the line, in their order, as if never delivered.
-- KEYS      meta options waiting prioritized leased runs wake
-- USES      clock fields wake line run
-- ARGV      token of the call, then ids
-- Returns   how many were given back: those whose lease still is of that call
-- Complexity O(ids · log N)
local token = ARGV[1]
local runs = redis.call('HMGET', RUNS, unpack(ARGV, 2))
local mine, kept = {}, {}
for i = 2, #ARGV do
  local run = parse_run(runs[i - 1])
  if run.token == token then
    run.token, run.started, run.consumer, run.deliveries = '', '', '', run.deliveries - 1
    mine[#mine + 1] = ARGV[i]
    kept[#kept + 1] = ARGV[i]
    kept[#kept + 1] = format_run(run)
  end
end
if #mine > 0 then
  redis.call('ZREM', LEASED, unpack(mine))
  redis.call('HSET', RUNS, unpack(kept))
  table.sort(mine)
  if join_head(mine) then look_now() end
end
return #mine

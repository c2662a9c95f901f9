#!lua
-- progress: stores the progress that a consumer reports for a live lease.
-- KEYS      leased runs progress
-- USES      clock run events
-- ARGV      id, token, JSON
-- Returns   1: stored, or 0: the lease is over and nothing was changed
-- Complexity O(log N)
local id, token, json = ARGV[1], ARGV[2], ARGV[3]
local run = redis.call('HGET', RUNS, id)
local deadline = tonumber(redis.call('ZSCORE', LEASED, id) or 0)
if not run or string.sub(run, 1, #token + 1) ~= token .. '\t' or deadline <= now then return 0 end
redis.call('HSET', PROGRESS, id, json)
record_events({ id }, function() return 'progress', attempt_of(parse_run(run), 1), json end)
return 1

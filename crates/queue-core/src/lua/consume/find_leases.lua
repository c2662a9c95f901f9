#!lua flags=no-writes
-- find_leases: finds the live leases of one lease call by the call's token. One call of the script checks about a
-- thousand leases.
-- KEYS      leased runs
-- USES      run
-- ARGV      token, cursor of ZSCAN over `leased` (0 at first); ZSCAN misses no lease if other leases end between two steps
-- Returns   the cursor for the next step (0: at the end), then ids
-- Complexity O(1,000)
local scan_page = redis.call('ZSCAN', LEASED, ARGV[2], 'COUNT', 1000)
local reply, ids = { scan_page[1] }, {}
for i = 1, #scan_page[2], 2 do
  ids[#ids + 1] = scan_page[2][i]
end
if #ids == 0 then return reply end
local runs = redis.call('HMGET', RUNS, unpack(ids))
for i, id in ipairs(ids) do
  if parse_run(runs[i]).token == ARGV[1] then
    reply[#reply + 1] = id
  end
end
return reply

#!lua flags=allow-oom
-- extend: moves the deadlines of live leases. A lapsed lease can't be extended. A live lease can be extended at most until
-- `RUN_TIMEOUT_GRACE` (ms) after the timeout of its run.
-- KEYS      options leased runs cancelling
-- USES      clock run watch timeout record_clock
-- ARGV      duration from now (ms; '' for the visibility timeout with which each message was leased), then for each lease:
--           id, token
-- Returns   for each lease 0 if it is over, else the new deadline (ms), negative if the message is to be cancelled
-- Complexity O(leases · log N)
local wanted_duration = tonumber(ARGV[1])
local ids = {}
for i = 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local runs = redis.call('HMGET', RUNS, unpack(ids))
local deadlines = redis.call('ZMSCORE', LEASED, unpack(ids))
local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
local is_cancelling = redis.call('SMISMEMBER', CANCELLING, unpack(ids))
local reply, new_deadlines, changed_runs, earliest_deadline = {}, {}, {}, math.huge
for i, id in ipairs(ids) do
  local token = ARGV[2 * i + 1]
  local is_leased = runs[i] and string.sub(runs[i], 1, #token + 1) == token .. '\t'
  if is_leased and tonumber(deadlines[i] or 0) > now then
    local run = parse_run(runs[i])
    local extension = wanted_duration and wanted_duration > run.visibility and wanted_duration or nil
    -- The instant `started` of a run is later than now if Redis's clock has stepped back since the lease began.
    local run_start = math.min(tonumber(run.started) or now, now)
    if extension ~= run.extension or run_start ~= tonumber(run.started) then
      run.extension, run.started = extension, run_start
      changed_runs[#changed_runs + 1] = id
      changed_runs[#changed_runs + 1] = format_run(run)
    end
    local deadline =
      deadline_of(timeout_of(options[i], run.timeout), run_start, now + (wanted_duration or run.visibility))
    if deadline < tonumber(deadlines[i]) then earliest_deadline = math.min(earliest_deadline, deadline) end
    new_deadlines[#new_deadlines + 1] = deadline
    new_deadlines[#new_deadlines + 1] = id
    reply[i] = is_cancelling[i] == 1 and -deadline or deadline
  else
    reply[i] = 0
  end
end
if #new_deadlines > 0 then
  redis.call('ZADD', LEASED, 'XX', unpack(new_deadlines))
  if #changed_runs > 0 then redis.call('HSET', RUNS, unpack(changed_runs)) end
  record_clock()
  -- If a lease ends earlier than before, consumers are notified to call `lease` when the earliest such lease ends.
  if earliest_deadline < math.huge then wake_at(earliest_deadline) end
end
return reply

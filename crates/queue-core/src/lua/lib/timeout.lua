-- timeout: finds how long one run may take (ms): the message's own timeout, otherwise the queue's timeout when the run began
-- (`of_queue`); nil if there is no limit.
-- USES fields
local function timeout_of(options, of_queue)
  return tonumber(field(options, 't')) or of_queue
end

-- A lease ends at most `RUN_TIMEOUT_GRACE` (ms) after the timeout of its run. In that time a consumer that has stopped the run
-- itself can settle the lease.
local function deadline_of(timeout, started, wanted)
  return timeout and math.min(wanted, started + timeout + RUN_TIMEOUT_GRACE) or wanted
end

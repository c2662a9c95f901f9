-- timeout: finds how long one run may take (ms): the message's own timeout, otherwise the queue's timeout when the run began
-- (`of_queue`); nil if there is no limit.
-- USES fields
local function timeout_of(options, of_queue)
  return tonumber(field(options, 't')) or of_queue
end

-- Returns the deadline of a lease. A lease ends at most `RUN_TIMEOUT_GRACE` (ms) after the timeout of its run. During these
-- milliseconds after the timeout of a run, a consumer that has stopped the run itself can still settle the lease.
local function deadline_of(timeout, started, wanted_deadline)
  return timeout and math.min(wanted_deadline, started + timeout + RUN_TIMEOUT_GRACE) or wanted_deadline
end

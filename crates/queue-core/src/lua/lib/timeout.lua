-- timeout: how long one run may take (ms): as the message says, else as the queue said when the run began (`of_queue`); nil
-- if it may take for ever.
-- USES fields
local function timeout_of(options, of_queue)
  return tonumber(field(options, 't')) or of_queue
end

-- A lease ends no later than its run must, but for `RUN_TIMEOUT_GRACE` (ms) in which a consumer that stops the run itself can
-- say so.
local function deadline_of(timeout, started, wanted)
  return timeout and math.min(wanted, started + timeout + RUN_TIMEOUT_GRACE) or wanted
end

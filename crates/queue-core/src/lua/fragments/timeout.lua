-- timeout: how long one run may take (ms), the message's own or the queue's; nil if it may take for ever.
local function timeout_of(options)
  return tonumber(field(options, 't') or set.timeout)
end

-- A lease ends no later than its run must, but for half a second in which a consumer that stops the run itself can say so.
local function deadline_of(options, started, wanted)
  local timeout = timeout_of(options)
  return timeout and math.min(wanted, started + timeout + 500) or wanted
end

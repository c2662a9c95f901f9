-- backoff: the pause (ms) before the next attempt. `spec` is the setting's JSON: the pause is always the same, or exponential
-- (doubled with each attempt made) and cut at `max` or at `delay`, whichever is longer; `random` in [0, 1) takes up to `jitter`
-- of it away.
local function backoff(spec, attempts_made, random)
  local kind, delay, max, jitter = string.match(
    spec, '^{"type":"(%a+)","delay":(%d+),"max":(%d+),"jitter":([%d.]+)}$')
  if not kind then return 1000 end -- Not written by Drover: no reason to stop the queue.
  local pause = tonumber(delay)
  if kind == 'exponential' then
    pause = pause * 2 ^ (attempts_made - 1)
  end
  pause = math.min(pause, math.max(tonumber(max), tonumber(delay)))
  return math.floor(pause * (1 - jitter * random))
end

-- backoff: computes the pause (ms) before the next attempt. `spec` is the JSON of the setting `backoff`. The pause is fixed or
-- exponential: an exponential pause doubles with each attempt, up to the longer of `max` and `delay`. `jitter` times `random`, a
-- number in [0, 1), is the fraction by which the pause is shortened.
local function backoff(spec, attempts_made, random)
  local backoff_type, delay, max_pause, jitter = string.match(
    spec, '^{"type":"(%a+)","delay":(%d+),"max":(%d+),"jitter":([%d.]+)}$')
  if not backoff_type then return 1000 end -- With a `spec` that Drover did not write, the pause is 1 s.
  local pause = tonumber(delay)
  if backoff_type == 'exponential' then
    pause = pause * 2 ^ (attempts_made - 1)
  end
  pause = math.min(pause, math.max(tonumber(max_pause), tonumber(delay)))
  return math.floor(pause * (1 - jitter * random))
end

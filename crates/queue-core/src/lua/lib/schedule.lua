-- schedule: reads and writes the state of a schedule, a text of parts with tabs between them: its revision (a random text that
-- changes with each new definition); how many messages its ticks have posted; the instant (ms) and the message's id of the newest
-- tick that was posted; the maximum number of messages; flags (p: paused, o: a tick is left out while an earlier message is
-- unfinished, d: declared in the configuration, g: its message has a group); the bytes of its message; its rule as JSON, which
-- scripts do not read.
-- KEYS wake
local function parse_schedule(text)
  if not text then return nil end
  local revision, runs, last_at, last_id, max_runs, flags, bytes_and_rule =
    string.match(text, '^([^\t]*)\t(%d+)\t(%d*)\t(%d*)\t(%d*)\t(%a*)\t(.*)$')
  if not revision then return nil end
  return {
    revision = revision, runs = tonumber(runs), last_at = tonumber(last_at), last_id = last_id,
    max_runs = tonumber(max_runs) or math.huge, max_text = max_runs, flags = flags, rest = bytes_and_rule,
  }
end

local function format_schedule(schedule)
  local last_at = schedule.last_at and string.format('%d', schedule.last_at) or ''
  return table.concat({
    schedule.revision, string.format('%d', schedule.runs), last_at, schedule.last_id, schedule.max_text, schedule.flags,
    schedule.rest,
  }, '\t')
end

local function has_flag(schedule, flag)
  return string.find(schedule.flags, flag, 1, true) ~= nil
end

-- Notifies the processes that post the messages of ticks that they must read this schedule again. Consumers of messages ignore
-- notifications about schedules.
local function announce_schedule(name)
  redis.call('PUBLISH', WAKE, 'schedule\t' .. name)
end

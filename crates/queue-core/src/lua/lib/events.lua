-- events: what happens to messages is written into the log `events` while a client listens; otherwise nothing is written.
-- An entry has its place as its id, "bytes-ms": how much the log ever had before it, and when it was written. So a
-- place is never used twice, and the log is bounded by bytes. For each event an entry has its word and a text: the id,
-- fields as in options (i: own id, n: name, a: attempt, c: consumer, d: due (ms), k: key of the signal that it waits for),
-- and after a line feed the JSON of its error or progress, unless that is long.
-- The maximum number of events of an entry; it lets readers read the log in small steps.
-- KEYS meta options events
-- USES layout clock fields
local LOG_BYTES, JSON_BYTES, ENTRY_BYTES, ENTRY_EVENTS = 16777216, 1024, 64, 100
local is_listened = (tonumber(listened_until) or 0) > now
local is_announced = false

-- The position of the next entry, which has this many bytes.
local function next_place(bytes)
  local place = tonumber(events_end) or 1
  events_end = place + bytes + ENTRY_BYTES
  redis.call('HSET', META, 'events_end', string.format('%d', events_end))
  return string.format('%d-%d', place, now)
end

-- `...` is words and texts by turns. Only `listen` begins the log, with an end to it.
local function write_entry(bytes, ...)
  local place = next_place(bytes)
  redis.call('XADD', EVENTS, 'NOMKSTREAM', 'MINID', '~', string.format('%d', math.max(0, events_end - LOG_BYTES)), place, ...)
end

-- One event for each message, before it is forgotten; `describe` answers its word, its fields and its JSON.
local function record_events(ids, describe)
  if not is_listened or #ids == 0 then return end
  local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
  local events, bytes = {}, 0
  for i, id in ipairs(ids) do
    local word, fields, json = describe(id, i)
    local own_id = field(options[i], 'i')
    local text = id .. (own_id and '\ti' .. own_id or '') .. (fields or '')
    if json and #json <= JSON_BYTES then text = text .. '\n' .. json end
    events[#events + 1] = word
    events[#events + 1] = text
    bytes = bytes + #word + #text
    if #events == 2 * ENTRY_EVENTS or i == #ids then
      write_entry(bytes, unpack(events))
      events, bytes = {}, 0
    end
  end
  -- One notification per call is enough, because no reader sees a part of a call.
  if not is_announced then redis.call('PUBLISH', EVENTS, 0) end
  is_announced = true
end

-- events: writes the events of messages to the log `events` while a client listens, and nothing otherwise. The id of an entry is
-- "bytes-ms": the bytes of all entries ever written before the entry, and the instant (ms) of the entry's write. Because the id of an
-- entry begins with a number of bytes, no id is used twice, and the log can be trimmed by bytes. For each event an entry has the
-- event's type and a text: the message's id, fields as in options (i: own id, g: group, n: name, a: attempt, c: consumer, d: due (ms),
-- s: schedule, k: key of the signal that the message waits for), and after a line feed the JSON of the error or progress, if that JSON
-- has at most `JSON_BYTES`. `ENTRY_EVENTS` is the maximum number of events of an entry, so that clients can read the log in small
-- steps.
-- KEYS meta options events
-- USES meta clock fields
local is_listened = (tonumber(meta.listened_until) or 0) > now
local next_entry_id, record_events
do
  local LOG_BYTES, JSON_BYTES, ENTRY_BYTES, ENTRY_EVENTS = 16777216, 1024, 64, 100
  local events_end = meta.events_end
  local is_announced = false

  -- Returns the id of the next entry of the log, and counts the `bytes` of that entry.
  function next_entry_id(bytes)
    local entry_start = tonumber(events_end) or 1
    events_end = entry_start + bytes + ENTRY_BYTES
    redis.call('HSET', META, 'events_end', string.format('%d', events_end))
    return string.format('%d-%d', entry_start, now)
  end

  -- Writes an entry to the log; the arguments after `bytes` are event types and texts alternately. Only the script `listen` creates
  -- the log and sets its expiry.
  local function write_entry(bytes, ...)
    local entry_id = next_entry_id(bytes)
    redis.call('XADD', EVENTS, 'NOMKSTREAM', 'MINID', '~', string.format('%d', math.max(0, events_end - LOG_BYTES)), entry_id, ...)
  end

  -- Records one event for each message in `ids`. A caller that forgets messages records the events of these messages first, because
  -- an event has the message's own id. The function `describe` returns the type, the fields and the JSON of an event.
  function record_events(ids, describe)
    if not is_listened or #ids == 0 then return end
    local options = redis.call('HLEN', OPTIONS) > 0 and redis.call('HMGET', OPTIONS, unpack(ids)) or {}
    local events, bytes = {}, 0
    for i, id in ipairs(ids) do
      local event_type, fields, json = describe(id, i)
      local own_id, group = field(options[i], 'i'), field(options[i], 'g')
      local event_text = id .. (own_id and '\ti' .. own_id or '') .. (group and '\tg' .. group or '') .. (fields or '')
      if json and #json <= JSON_BYTES then event_text = event_text .. '\n' .. json end
      events[#events + 1] = event_type
      events[#events + 1] = event_text
      bytes = bytes + #event_type + #event_text
      if #events == 2 * ENTRY_EVENTS or i == #ids then
        write_entry(bytes, unpack(events))
        events, bytes = {}, 0
      end
    end
    -- One notification per call of a script is enough, because no reader of the log sees a part of the call's writes.
    if not is_announced then redis.call('PUBLISH', EVENTS, 0) end
    is_announced = true
  end
end

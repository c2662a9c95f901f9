#!lua flags=no-writes
-- schedules: returns schedules by name, or all of them in the order of their names.
-- KEYS      schedules schedule_messages ticks
-- USES      meta clock
-- ARGV      'brief', or 'full' with their messages; 'names', then names; or 'after', the name after which the page begins, the
--           maximum number
-- Returns   now (µs), 1 if the queue exists; 1 if more follow; then for each schedule four: its name, its state ('' if it does not
--           exist), its next instant (ms; '' for none), its message ('' if brief): up to 4 MiB, but at least one
-- Complexity O(N log N)
local includes_messages, names, max_count = ARGV[1] == 'full', {}, MAX_SCHEDULES
if ARGV[2] == 'names' then
  for i = 3, #ARGV do names[#names + 1] = ARGV[i] end
else
  max_count = tonumber(ARGV[4])
  for _, name in ipairs(redis.call('HKEYS', SCHEDULES)) do
    if name > ARGV[3] then names[#names + 1] = name end
  end
  table.sort(names)
end
local reply, bytes = { string.format('%d', now_us), meta.epoch and 1 or 0, 0 }, 0
for i, name in ipairs(names) do
  local state, message = redis.call('HGET', SCHEDULES, name) or '', ''
  if includes_messages then message = redis.call('HGET', SCHEDULE_MESSAGES, name) or '' end
  bytes = bytes + #name + #state + #message
  if i > max_count or (bytes > MAX_BYTES and i > 1) then
    reply[3] = 1
    break
  end
  for _, value in ipairs({ name, state, redis.call('ZSCORE', TICKS, name) or '', message }) do reply[#reply + 1] = value end
end
return reply

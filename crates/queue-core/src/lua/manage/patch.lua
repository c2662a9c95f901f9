#!lua
-- patch: changes the record, the priority or the due time of a message that was never leased.
-- KEYS      meta messages options delayed runs held
-- USES      meta clock instants fields run events groups waiting_list wake watch state held
-- ARGV      id (Drover's or the producer's own); the first line of its record as the caller read it; the new record without the
--           instants, and without the payload if that stays; its priority ('' for unchanged); its delay
--           from now in ms ('' for unchanged)
-- Returns   false: unknown; or the state in which the message was found, and the outcome: 'patched'; 'started': it was leased
--           or has finished; 'other': its first line has changed since the caller read it. Only 'patched' changes the message
-- Complexity O(log N)
local id = drovers_id(ARGV[1])
local known_first_line, new_record_text, priority, delay = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local options = redis.call('HGET', OPTIONS, id) or ''
local options_before = options
local state = state_of(id, options)
if not state then return false end
local run = redis.call('HGET', RUNS, id)
run = run and parse_run(run)
local may_start = state == 'held' or state == 'delayed' or state == 'waiting'
if not may_start or (run and run.deliveries > 0) then return { state, 'started' } end
local record = redis.call('HGET', MESSAGES, id)
if string.sub(record, 1, #known_first_line + 1) ~= known_first_line .. '\n' then return { state, 'other' } end

local created_text, fields_before = string.match(known_first_line, '^(%d+)(.*)$')
local created_at, due_instant = tonumber(created_text), tonumber(string.match(known_first_line, '\td(%d+)'))
local new_state, is_due_changed = state, false
if delay then
  if delay > 0 then
    -- The new due time is later than the message's creation, even if Redis's clock has stepped back to before the creation.
    is_due_changed, due_instant = true, math.max(now + delay, created_at + 1)
    if state == 'waiting' then new_state = 'delayed' end
  elseif state ~= 'waiting' then
    is_due_changed, due_instant = true, math.max(now, created_at)
    if state == 'delayed' then new_state = 'waiting' end
  end
end
local due_field = due_instant and due_instant > created_at and '\td' .. instant_text(due_instant) or ''

if not string.find(new_record_text, '\n', 1, true) then new_record_text = new_record_text .. string.sub(record, #known_first_line + 1) end
-- Fields of the record that this version of Drover does not know stay unchanged.
local other_fields = string.gsub(fields_before, '\t[' .. PATCHED_LETTERS .. '][^\t]*', '')
record = created_text .. due_field .. other_fields .. new_record_text

local has_new_priority = priority and priority ~= (tonumber(field(options, 'p')) or 0)
if has_new_priority then
  options = (priority ~= 0 and '\tp' .. ARGV[4] or '') .. string.gsub(options, '\tp[^\t]*', '')
end
-- The message is ready at its new due time; an earlier ready instant no longer counts.
if is_due_changed then options = (string.gsub(options, '\tr[^\t]*', '')) end
local hold_key = state == 'held' and field(options, 'k')
local held_entry = hold_key and held_member(id, options)

-- The script makes all its checks before its first write, so that a refused call changes nothing.
redis.call('HSET', MESSAGES, id, record)
if options == '' then redis.call('HDEL', OPTIONS, id) else redis.call('HSET', OPTIONS, id, options) end
if #record + #options > (tonumber(meta.largest) or 0) then redis.call('HSET', META, 'largest', #record + #options) end
if is_due_changed and run then
  run.ready = nil
  redis.call('HSET', RUNS, id, format_run(run))
end
record_events({ id }, function()
  local shown_due = new_state ~= 'waiting' and due_field or ''
  return 'enqueued', field_in(record, 'n') .. shown_due .. field_in(record, 's') .. (hold_key and '\tk' .. hold_key or '')
end)
if hold_key and is_due_changed then
  redis.call('ZREM', HELD, held_entry)
  redis.call('ZADD', HELD, 0, hold_key .. '\t' .. id .. string.gsub(due_field, 'd', ''))
elseif state == 'waiting' and (is_due_changed or has_new_priority) then
  remove_from_waiting_list({ id }, { options_before })
elseif state == 'delayed' and new_state == 'waiting' then
  redis.call('ZREM', DELAYED, id)
end
local needs_wake_up = false
if new_state == 'delayed' and is_due_changed then
  redis.call('ZADD', DELAYED, instant_text(due_instant), id)
  wake_at(due_instant)
elseif new_state == 'waiting' and (is_due_changed or has_new_priority) then
  needs_wake_up = push_tail({ id })
end
if groups.write() or needs_wake_up then wake_now() end
return { state, 'patched' }

#!lua flags=allow-oom
-- quota: counts one use against a limit, if the limit permits it: no window of the duration, wherever it starts, has more than
-- `max` uses.
--
-- The duration of a quota is divided into 20 slices. The uses in the current slice and in the 20 slices before count towards `max`. The
-- current slice and the 20 slices before cover at least one duration of the quota. With an even load, a quota therefore permits 20/21
-- of `max` (95 %) in each duration.
--
-- KEYS the quota, string "slice,count slice,count …": the slices in which there were uses, at most 21
-- ARGV max, duration in ms (a multiple of 20)
-- Returns 1 if the use was counted, 0 if it was refused; how many uses are left; ms until more uses are left
-- Complexity O(1)
local QUOTA = KEYS[1]
local max_uses = tonumber(ARGV[1])
local duration = tonumber(ARGV[2])
local slice_length = duration / 20

local redis_time = redis.call('TIME')
local now = tonumber(redis_time[1]) * 1000 + math.floor(tonumber(redis_time[2]) / 1000)
local current_slice = math.floor(now / slice_length)

local oldest_slice = current_slice
local used_count, current_slice_count = 0, 0
local clock_was_moved_back = false
local slices = {}
for slice, count in string.gmatch(redis.call('GET', QUOTA) or '', '(%d+),(%d+)') do
  slice, count = tonumber(slice), tonumber(count)
  if slice >= current_slice then
    -- After Redis's clock stepped back, a use in a later slice counts as a use in the current slice, so that it expires in time.
    clock_was_moved_back = clock_was_moved_back or slice > current_slice
    used_count, current_slice_count = used_count + count, current_slice_count + count
  elseif slice >= current_slice - 20 then
    oldest_slice = math.min(oldest_slice, slice)
    used_count = used_count + count
    slices[#slices + 1] = string.format('%.0f,%.0f', slice, count)
  end
end

local is_granted = used_count < max_uses and 1 or 0
if is_granted == 1 or clock_was_moved_back then
  slices[#slices + 1] = string.format('%.0f,%.0f', current_slice, current_slice_count + is_granted)
  redis.call('SET', QUOTA, table.concat(slices, ' '), 'PX', string.format('%.0f', duration + slice_length))
end
return {is_granted, math.max(0, max_uses - used_count - is_granted), (oldest_slice + 21) * slice_length - now}

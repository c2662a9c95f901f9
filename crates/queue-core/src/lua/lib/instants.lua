-- instants: formats instants as text. Redis formats a number with 17 digits, which is slow; most messages of a call share
-- the same instants, so the last text is cached.
-- USES clock
local instant_of_text, text_of_instant
local function instant_text(instant)
  if instant ~= instant_of_text then
    instant_of_text, text_of_instant = instant, string.format('%d', instant)
  end
  return text_of_instant
end
local now_text = string.format('%d', now)

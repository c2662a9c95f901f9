-- instants: as text. Stands behind the clock. Redis writes a number out with 17 digits, which takes longer than most of
-- what is done for a message; most messages of a call have the same instants.
-- USES clock
local instant_of_text, text_of_instant
local function instant_text(instant)
  if instant ~= instant_of_text then
    instant_of_text, text_of_instant = instant, string.format('%d', instant)
  end
  return text_of_instant
end
local now_text = string.format('%d', now)

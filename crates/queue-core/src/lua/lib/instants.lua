-- instants: formats instants as text. A number that a script passes to Redis is formatted with 17 digits, which is slow. Most
-- messages of a call share an instant, so the last text is cached.
-- USES clock
local instant_of_text, text_of_instant
local function instant_text(instant)
  if instant ~= instant_of_text then
    instant_of_text, text_of_instant = instant, string.format('%d', instant)
  end
  return text_of_instant
end
local now_text = string.format('%d', now)

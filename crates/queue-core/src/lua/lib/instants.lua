-- instants: formats instants as text. A number that a script passes to Redis is formatted with 17 digits, which is slow. Most
-- messages of a call share an instant, so the text of the last formatted instant is cached.
-- USES clock
local cached_instant, cached_text
local function instant_text(instant)
  if instant ~= cached_instant then
    cached_instant, cached_text = instant, string.format('%d', instant)
  end
  return cached_text
end
local now_text = string.format('%d', now)

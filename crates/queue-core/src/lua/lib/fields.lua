-- fields: one value out of the tagged text of `options`: each is a tab, a letter, the value.
local patterns = {}

-- Most messages have no options: that must cost nothing.
local function field(text, tag)
  if not text or text == '' then return nil end
  local pattern = patterns[tag]
  if not pattern then
    pattern = '\t' .. tag .. '([^\t]*)'
    patterns[tag] = pattern
  end
  return string.match(text, pattern)
end

-- A field in the header of a record with its tab and letter, or nothing.
local function field_in(record, tag)
  return string.match(record or '', '^[^\n]-(\t' .. tag .. '[^\t\n]*)') or ''
end

-- fields: reads one field of a tagged text, such as `options`. Each field is a tab, a letter (its tag) and the value.
local field_patterns = {}

-- Returns the value of a field; nil if the field is absent. Most messages have no options, so the function `field` checks first
-- whether the text is empty.
local function field(text, tag)
  if not text or text == '' then return nil end
  local pattern = field_patterns[tag]
  if not pattern then
    pattern = '\t' .. tag .. '([^\t]*)'
    field_patterns[tag] = pattern
  end
  return string.match(text, pattern)
end

-- Returns a field in the first line of a record, with its tab and letter; '' if the field is absent.
local function field_in(record, tag)
  return string.match(record or '', '^[^\n]-(\t' .. tag .. '[^\t\n]*)') or ''
end

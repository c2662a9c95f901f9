-- fields: one value out of the tagged text of `options`: each is a tab, a letter, the value.
local function field(text, tag)
  return text and string.match(text, '\t' .. tag .. '([^\t]*)') or nil
end

-- A field in the header of a record with its tab and letter, or nothing.
local function field_in(record, tag)
  return string.match(record or '', '^[^\n]-(\t' .. tag .. '[^\t\n]*)') or ''
end

-- fields: one value out of the tagged text of `options`: each is a tab, a letter, the value.
local function field(text, tag)
  return text and string.match(text, '\t' .. tag .. '([^\t]*)') or nil
end

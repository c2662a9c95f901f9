-- held: the member of `held`: the key, the id, and, if it is delayed as well, when it is due (ms), so that the held ones
-- of a key lie together in the order posted. nil for a message that has no key.
local function held_member(id, options, record)
  local key = field(options, 'k')
  if not key then return nil end
  local due = field(string.match(record or '', '^[^\n]*'), 'd')
  return key .. '\t' .. id .. (due and '\t' .. due or '')
end

-- errors: stores the error of a failed attempt, or of a lapse, in a run. The error before it moves to the member `earlier` of the new
-- error's JSON: a list of errors, oldest first, each with its attempt and instant (ms). The list has at most `MAX_EARLIER` errors and
-- `MAX_EARLIER_ERRORS_BYTES`, and their codes and texts are shortened, so that the run stays small. Versions of Drover that do not know
-- the list ignore it, and drop it with the next error.
local add_error
do
  local MAX_EARLIER, MAX_CODE_BYTES, MAX_TEXT_BYTES = 4, 40, 150

  -- Returns the start of a text, without a part of a character at its end.
  local function shortened(text, max_bytes)
    if #text <= max_bytes then return text end
    return (string.gsub(string.sub(text, 1, max_bytes - 3), '[\192-\255][\128-\191]*$', '')) .. '…'
  end

  -- Returns the JSON of the list of the errors before a new one, or nil if none is kept. `error_text` is the error in the run.
  local function earlier_errors(error_text)
    local attempt, at, json = string.match(error_text, '^(%d+) (%d+) (.*)$')
    local last = cjson.decode(json)
    local list = last.earlier or {}
    list[#list + 1] = {
      attempt = tonumber(attempt), at = tonumber(at), code = shortened(last.code, MAX_CODE_BYTES),
      message = shortened(last.message, MAX_TEXT_BYTES),
    }
    if #list > MAX_EARLIER then table.remove(list, 1) end
    while #list > 0 do
      local list_json = cjson.encode(list)
      if #list_json <= MAX_EARLIER_ERRORS_BYTES then return list_json end
      table.remove(list, 1)
    end
  end

  -- Stores an error in a run, with the attempt and the instant (ms) of the error.
  function add_error(run, attempt, at, json)
    if run.error ~= '' then
      -- An error that Drover did not write is dropped: the script must not fail after its first write.
      local is_readable, list_json = pcall(earlier_errors, run.error)
      if is_readable and list_json then json = string.sub(json, 1, -2) .. ',"earlier":' .. list_json .. '}' end
    end
    run.error = attempt .. ' ' .. at .. ' ' .. json
  end
end

-- places: where a list of a sorted set goes on: "score:id" of the last member that was listed, whether that still stands there
-- or not.
local places = {}

function places.of(id, score)
  return string.format('%.0f', score) .. ':' .. id
end

-- How many members stand before that one, or at it too.
function places.standing_before(key, score, id, at_it_too)
  local low, high = redis.call('ZCOUNT', key, '-inf', '(' .. score), redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', key, middle, middle)[1]
    if member < id or (at_it_too and member == id) then low = middle + 1 else high = middle end
  end
  return low
end

-- The next members behind a place ('' for the first), each followed by its score.
function places.members_from(key, place, limit)
  local score, id = string.match(place, '^(%d+):(%d+)$')
  local from = score and places.standing_before(key, score, id, true) or 0
  return redis.call('ZRANGE', key, from, from + limit - 1, 'WITHSCORES')
end

-- The members before a place ('' for the end), the last one first.
function places.members_before(key, place, limit)
  local score, id = string.match(place, '^(%d+):(%d+)$')
  local before = score and places.standing_before(key, score, id, false) or redis.call('ZCARD', key)
  if before == 0 then return {} end
  local found = redis.call('ZRANGE', key, math.max(0, before - limit), before - 1, 'WITHSCORES')
  local last_first = {}
  for i = #found - 1, 1, -2 do
    last_first[#last_first + 1] = found[i]
    last_first[#last_first + 1] = found[i + 1]
  end
  return last_first
end

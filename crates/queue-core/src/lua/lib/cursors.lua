-- cursors: pages through a sorted set. A cursor is "score:id" of the last member that was listed, and stays valid when that
-- member is removed.
local cursors = {}

function cursors.of(id, score)
  return string.format('%.0f', score) .. ':' .. id
end

-- Returns the number of members that sort before the member `id` with this score. If `inclusive` is true, the returned number includes
-- the member `id` itself.
function cursors.count_before(key, score, id, inclusive)
  local low_rank, high_rank = redis.call('ZCOUNT', key, '-inf', '(' .. score), redis.call('ZCOUNT', key, '-inf', score)
  while low_rank < high_rank do
    local middle_rank = math.floor((low_rank + high_rank) / 2)
    local member = redis.call('ZRANGE', key, middle_rank, middle_rank)[1]
    if member < id or (inclusive and member == id) then low_rank = middle_rank + 1 else high_rank = middle_rank end
  end
  return low_rank
end

-- Returns the members of the sorted set `key` that come after a cursor ('' for the first members), each followed by its score.
function cursors.members_from(key, cursor, limit)
  local score, id = string.match(cursor, '^(%d+):(%d+)$')
  local start_rank = score and cursors.count_before(key, score, id, true) or 0
  return redis.call('ZRANGE', key, start_rank, start_rank + limit - 1, 'WITHSCORES')
end

-- Returns the members of the sorted set `key` that come before a cursor ('' for the last members), in descending order, each followed
-- by its score.
function cursors.members_before(key, cursor, limit)
  local score, id = string.match(cursor, '^(%d+):(%d+)$')
  local end_rank = score and cursors.count_before(key, score, id, false) or redis.call('ZCARD', key)
  if end_rank == 0 then return {} end
  local found_members = redis.call('ZRANGE', key, math.max(0, end_rank - limit), end_rank - 1, 'WITHSCORES')
  local descending_members = {}
  for i = #found_members - 1, 1, -2 do
    descending_members[#descending_members + 1] = found_members[i]
    descending_members[#descending_members + 1] = found_members[i + 1]
  end
  return descending_members
end

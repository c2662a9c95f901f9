-- purged: a purge of what is waiting takes the whole line aside at once: `waiting` becomes `purged`, `prioritized` becomes
-- `purged_prioritized`, `removed` becomes `purged_removed`. From then on these messages are hidden from every call; they are
-- forgotten in steps, by the process that purges or by maintenance. `purged_to` of `meta` is the last id that there was.
-- A message up to that id that is in no other state is one of them, unless it has joined the waiting list since:
-- `returned`.
-- KEYS prioritized returned
-- USES layout
local function is_purged(id)
  return purged_to and id <= purged_to and redis.call('SISMEMBER', RETURNED, id) == 0
    and not redis.call('ZSCORE', PRIORITIZED, id)
end

-- purged: tells whether a message was purged. A purge of the state `waiting` renames the whole waiting list at once: `waiting`
-- becomes `purged`, `prioritized` becomes `purged_prioritized`, `removed` becomes `purged_removed`. Every call then hides
-- these messages; the process that purges, or maintenance, forgets them in steps. `purged_to` of `meta` is the last id at the
-- time of the purge. A message with an id up to that one which is in no other state was purged, unless it has become ready
-- since the purge began; the set `returned` has the ids of the messages that have.
-- KEYS prioritized returned
-- USES meta
local function is_purged(id)
  return meta.purged_to and id <= meta.purged_to and redis.call('SISMEMBER', RETURNED, id) == 0
    and not redis.call('ZSCORE', PRIORITIZED, id)
end

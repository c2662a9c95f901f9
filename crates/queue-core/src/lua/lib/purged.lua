-- purged: tells whether a message was purged. A purge of the state `waiting` renames the whole waiting list at once: `waiting` becomes
-- `purged`, `prioritized` becomes `purged_prioritized`, `removed` becomes `purged_removed`. Once a purge has renamed these keys of the
-- waiting list, every call hides the purged messages. The process that purges, or maintenance, forgets the purged messages in steps.
-- The field `purged_to` of `meta` is the last id at the time of the purge. A message whose id is at most `purged_to` and that is in no
-- other state was purged, unless the message has become ready since the purge began; the set `returned` has the ids of messages that
-- have become ready since then.
-- KEYS prioritized returned
-- USES meta
local function is_purged(id)
  return meta.purged_to and id <= meta.purged_to and redis.call('SISMEMBER', RETURNED, id) == 0
    and not redis.call('ZSCORE', PRIORITIZED, id)
end

//! The part of the audit that checks groups: the order of their messages, the places taken, and the turns.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deadpool_redis::redis;

use crate::{
    error::Result,
    queue::{Queue, audit::Finding, audit_held::id_of_held, status::Counts},
    redis::{reply, suffix},
    settings::Settings,
};

/// The maximum number of times that the groups are read; a read counts only if nothing changes during it.
const MAX_READS: usize = 5;
/// The number of values of the key `runs` that one call reads.
const RUNS_PER_CALL: usize = 500;
/// The length of a message's position in its group.
const POSITION_LENGTH: usize = 22;
/// The length of a message's id.
const ID_LENGTH: usize = 14;
/// The characters before the id in the position of a message that was never leased and has priority 0.
const POSITION_BEFORE_ID: &str = "12097152";

/// A group as Redis stores it.
#[derive(Default)]
struct Group {
    /// The position of the first ready message; `None` if no message of the group is ready.
    head: Option<String>,
    /// The number of ready messages after the first one.
    others: usize,
    /// The number of taken places.
    places: u64,
    /// Whether the group is single: Redis stores only the id of its only message.
    is_single: bool,
}

impl Group {
    fn decode(text: &str) -> Self {
        if text.len() == ID_LENGTH {
            return Self { head: Some(format!("{POSITION_BEFORE_ID}{text}")), is_single: true, ..Self::default() };
        }
        let (ready, places) = text.split_once('/').unwrap_or((text, "0"));
        let (head, others) = ready.split_at_checked(POSITION_LENGTH).unwrap_or_default();
        Self {
            head: (!head.is_empty()).then(|| head.to_owned()),
            others: others.parse().unwrap_or(0),
            places: places.parse().unwrap_or(u64::MAX),
            is_single: false,
        }
    }
}

/// Everything about the groups of a queue, read while nothing changed.
#[derive(Default)]
struct Snapshot {
    meta: HashMap<String, String>,
    counts: Counts,
    groups: BTreeMap<String, Group>,
    /// The ready messages of groups except the first of each group, as `group⇥position`.
    rest: BTreeSet<String>,
    turns: BTreeSet<String>,
    /// The ids that have the turns of single groups, and stale ids, in the order of the list.
    single_turns: Vec<String>,
    /// The number of messages of each group that hold a place: messages that are active, or delayed or held after a delivery.
    holders: BTreeMap<String, u64>,
    /// The number of unfinished messages with a group.
    grouped: u64,
}

impl Queue {
    /// Checks the groups, and returns their problems. The groups of a queue that changes all the time are not checked.
    pub(super) async fn audit_groups(&self) -> Result<Vec<Finding>> {
        let mut exists = redis::cmd("EXISTS");
        for key in [suffix::GROUPS, suffix::GROUP_REST, suffix::TURNS, suffix::SINGLE_TURNS] {
            exists.arg(self.keys.key(key));
        }
        let keys: u64 = reply::decode(self.redis.call(self.keys.slot(), &exists).await?)?;
        if keys == 0 && !self.meta().await?.contains_key("grouped") {
            return Ok(Vec::new());
        }
        for _ in 0..MAX_READS {
            if let Some(snapshot) = self.read_groups().await? {
                return Ok(snapshot.findings());
            }
        }
        Ok(Vec::new())
    }

    /// Reads everything about the groups; `None` if something changed meanwhile.
    async fn read_groups(&self) -> Result<Option<Snapshot>> {
        let version_before = self.version_of_groups().await?;
        let mut snapshot = Snapshot {
            groups: self.read_stored_groups(suffix::GROUPS).await?,
            rest: self.scan("ZSCAN", suffix::GROUP_REST, 2).await?.into_iter().collect(),
            turns: self.scan("ZSCAN", suffix::TURNS, 2).await?.into_iter().collect(),
            single_turns: self.read_list(suffix::SINGLE_TURNS).await?,
            ..Snapshot::default()
        };
        let finished: HashSet<String> = self.scan("HSCAN", suffix::OUTCOMES, 2).await?.into_iter().collect();
        let purged_groups = self.read_stored_groups(suffix::PURGED_GROUPS).await?;
        let purged_rest = self.scan("ZSCAN", suffix::PURGED_GROUP_REST, 2).await?;
        let purged_heads = purged_groups.values().filter_map(|group| group.head.clone());
        let purged_ids: HashSet<String> = purged_heads
            .chain(purged_rest.iter().map(|member| position_in_member(member).to_owned()))
            .map(id_in_position)
            .collect();
        // While a purge is unfinished, the key `purged_groups` may still have the number of taken places of a group.
        for (name, group) in purged_groups.into_iter().filter(|(_, group)| group.places > 0) {
            snapshot.groups.entry(name).or_default().places += group.places;
        }
        let options = field_value_pairs(self.scan("HSCAN", suffix::OPTIONS, 1).await?);
        let groups: HashMap<String, String> = options
            .filter(|(id, _)| !finished.contains(id) && !purged_ids.contains(id))
            .filter_map(|(id, options)| Some((id, group_in_options(&options)?)))
            .collect();
        snapshot.grouped = groups.len() as u64;
        let groups_of_ids = |ids: Vec<String>| -> Vec<String> {
            ids.into_iter().filter(|id| groups.contains_key(id)).collect::<HashSet<_>>().into_iter().collect()
        };
        let mut pausing_ids = self.scan("ZSCAN", suffix::DELAYED, 2).await?;
        let held_members = self.scan("ZSCAN", suffix::HELD, 2).await?;
        pausing_ids.extend(held_members.iter().filter_map(|member| id_of_held(member)).map(str::to_owned));
        let pausing_ids = groups_of_ids(pausing_ids);
        let mut holders = groups_of_ids(self.scan("ZSCAN", suffix::LEASED, 2).await?);
        for ids in pausing_ids.chunks(RUNS_PER_CALL) {
            let mut read_command = redis::cmd("HMGET");
            read_command.arg(self.keys.key(suffix::RUNS)).arg(ids);
            let runs: Vec<Option<String>> = reply::decode(self.redis.call(self.keys.slot(), &read_command).await?)?;
            let was_delivered = |run: &Option<String>| {
                run.as_ref().and_then(|run| run.split('\t').nth(4)).is_some_and(|deliveries| deliveries != "0")
            };
            holders.extend(ids.iter().zip(&runs).filter(|(_, run)| was_delivered(run)).map(|(id, _)| id.clone()));
        }
        for id in holders {
            *snapshot.holders.entry(groups[&id].clone()).or_default() += 1;
        }
        let version_after = self.version_of_groups().await?;
        if version_before != version_after {
            return Ok(None);
        }
        (snapshot.meta, snapshot.counts, _) = version_after;
        Ok(Some(snapshot))
    }

    async fn read_stored_groups(&self, key: &str) -> Result<BTreeMap<String, Group>> {
        let stored_pairs = field_value_pairs(self.scan("HSCAN", key, 1).await?);
        Ok(stored_pairs.map(|(name, text)| (name, Group::decode(&text))).collect())
    }

    /// Reads the fields of `meta` and the counts, of which at least one differs after any operation that changes a group, and the
    /// length of the list `single_turns`, which also changes when stale ids are removed.
    async fn version_of_groups(&self) -> Result<(HashMap<String, String>, Counts, u64)> {
        let counts = self.status().await?.map(|status| status.counts);
        let mut length_command = redis::cmd("LLEN");
        length_command.arg(self.keys.key(suffix::SINGLE_TURNS));
        let list_length = reply::decode(self.redis.call(self.keys.slot(), &length_command).await?)?;
        Ok((self.meta().await?, counts.unwrap_or_default(), list_length))
    }
}

impl Snapshot {
    fn findings(&self) -> Vec<Finding> {
        let groups_of_rest = self.rest.iter().map(|member| group_in_member(member).to_owned());
        let known_groups = self.groups.keys().chain(self.holders.keys()).chain(&self.turns).cloned();
        let groups: BTreeSet<String> = known_groups.chain(groups_of_rest).filter(|group| !group.is_empty()).collect();
        let single_turns: HashSet<&str> = self.single_turns.iter().map(String::as_str).collect();
        let mut findings: Vec<Finding> = groups
            .iter()
            .filter_map(|group| {
                Some(Finding { id: format!("group {group}"), problem: self.problem_of(group, &single_turns)? })
            })
            .collect();
        let [grouped, ready, last_turn] = ["grouped", "ready", "turn"]
            .map(|field| self.meta.get(field).map_or(0, |count| count.parse().unwrap_or(u64::MAX)));
        let mut add = |problem: String| findings.push(Finding { id: "groups".into(), problem });
        if grouped != self.grouped {
            add(format!("{} unfinished messages have a group, but grouped is {grouped}", self.grouped));
        }
        if !self.single_turns.is_sorted_by(|id, next_id| id < next_id) {
            add("the ids in single_turns do not ascend".to_owned());
        }
        if let Some(last_id) = self.single_turns.last()
            && last_id.parse().is_ok_and(|last_id: u64| last_id > last_turn)
        {
            add(format!("{last_id} in single_turns is above the last turn {last_turn}"));
        }
        let count_in_groups =
            (self.groups.values().filter(|group| group.head.is_some()).count() + self.rest.len()) as u64;
        if ready != count_in_groups {
            add(format!("{count_in_groups} messages of groups are ready, but ready is {ready}"));
            return findings;
        }
        let others_are_ready = self.counts.waiting > count_in_groups && grouped > 0;
        if others_are_ready != self.turns.contains("") {
            let turn_text = if others_are_ready { "have no turn" } else { "have a turn" };
            add(format!(
                "messages without a group {turn_text}, and {} of them wait",
                self.counts.waiting - count_in_groups
            ));
        }
        findings
    }

    fn problem_of(&self, group: &str, single_turns: &HashSet<&str>) -> Option<String> {
        let absent_group = Group::default();
        let Group { head, others, places, is_single } = self.groups.get(group).unwrap_or(&absent_group);
        let rest_positions: Vec<&str> = self
            .rest
            .iter()
            .filter(|member| group_in_member(member) == group)
            .map(|member| position_in_member(member))
            .collect();
        if rest_positions.len() != *others {
            return Some(format!("{} messages in group_rest, but {others} in groups", rest_positions.len()));
        }
        if let (Some(head), Some(first)) = (head, rest_positions.first())
            && *first <= head.as_str()
        {
            return Some(format!("{first} in group_rest goes before {head} in groups"));
        }
        let holders = self.holders.get(group).copied().unwrap_or(0);
        if *places != holders {
            return Some(format!("{places} places are taken, but {holders} messages hold one"));
        }
        if head.is_none() && *places == 0 && self.groups.contains_key(group) {
            return Some("it is in groups, and has no message".to_owned());
        }
        let settings = Settings::from_stored(self.meta.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let limit = settings.groups.concurrency.map_or(u64::MAX, |limit| limit.unsigned_abs());
        let is_eligible = head.is_some() && *places < limit;
        let is_regrouped = !self.meta.contains_key("regrouping");
        let head_id = head.as_ref().filter(|_| *is_single).map(id_in_position);
        let has_single_turn = head_id.is_some_and(|id| single_turns.contains(id.as_str()));
        let turn_count = usize::from(self.turns.contains(group)) + usize::from(has_single_turn);
        (is_regrouped && turn_count != usize::from(is_eligible)).then(|| format!("it has {turn_count} turns"))
    }
}

/// Pairs each field of a hash with its value, from a flat list of fields and values.
fn field_value_pairs(flat: Vec<String>) -> impl Iterator<Item = (String, String)> {
    let mut flat_values = flat.into_iter();
    std::iter::from_fn(move || Some((flat_values.next()?, flat_values.next()?)))
}

fn group_in_member(member: &str) -> &str {
    member.split('\t').next().unwrap_or_default()
}

fn position_in_member(member: &str) -> &str {
    member.split('\t').nth(1).unwrap_or_default()
}

/// Returns the message's id, which is the end of its position in the group.
fn id_in_position(position: impl AsRef<str>) -> String {
    position.as_ref().get(8..POSITION_LENGTH).unwrap_or_default().to_owned()
}

/// Returns the group that the options of a message name.
fn group_in_options(options: &str) -> Option<String> {
    options.split('\t').find_map(|field| field.strip_prefix('g')).map(str::to_owned)
}

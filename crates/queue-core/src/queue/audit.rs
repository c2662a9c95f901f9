//! The audit: checks that each message is in exactly one state, while the queue is in use.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use deadpool_redis::redis;

use crate::{
    error::Result,
    queue::{Call, Queue, audit_held::id_of_held},
    redis::{reply, scripts, suffix},
};

/// The number of ids that one step checks.
pub(super) const IDS_PER_STEP: usize = 500;
/// The number of suspect messages that one step checks again; the step searches the lists for each of them.
const SUSPECTS_PER_STEP: usize = 20;

/// The keys that stand for states: each message is in exactly one of these keys.
const STATE_SUFFIXES: [&str; 11] = [
    "held",
    // `grouped` stands for the keys `groups` and `group_rest`.
    "grouped",
    "waiting",
    "prioritized",
    "delayed",
    "leased",
    "completed",
    "failed",
    // Messages in the keys of a purge were purged, but are not forgotten yet.
    "purged",
    "purged_prioritized",
    "purged_grouped",
];

/// Each list, with the set that marks those ids of the list whose messages were removed.
const LISTS_AND_MARKS: [(&str, &str); 3] =
    [(suffix::WAITING, suffix::REMOVED), (suffix::COMPLETED, suffix::ERASED), (suffix::PURGED, suffix::PURGED_REMOVED)];

/// The findings of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// The number of checked messages.
    pub messages: usize,
    /// The messages, groups and schedules with a problem.
    pub findings: Vec<Finding>,
}

/// A message, a group or a schedule with a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The message's id; or `group` and the key of a group; or `schedule` and the name of a schedule.
    pub id: String,
    /// A description of the problem.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.problem)
    }
}

impl Queue {
    /// Checks that every message is in exactly one state and has a record, while the queue is in use. The audit works in steps. Each
    /// message that seems to be damaged is checked again, at one instant. The audit keeps the ids of all messages in memory until it
    /// ends. The audit also checks the hold keys, the groups and the schedules; each hold key and schedule is checked at one
    /// instant.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn audit(&self) -> Result<Audit> {
        let mut lists_by_id: HashMap<String, Vec<&'static str>> = HashMap::new();
        for (list, _) in LISTS_AND_MARKS {
            for id in self.read_list(list).await? {
                lists_by_id.entry(id).or_default().push(list);
            }
        }
        for hash in
            [suffix::MESSAGES, suffix::OPTIONS, suffix::RUNS, suffix::OUTCOMES, suffix::PROGRESS, suffix::SIGNALLED]
        {
            for id in self.scan("HSCAN", hash, 2).await? {
                lists_by_id.entry(id).or_default();
            }
        }
        let indices = [suffix::PRIORITIZED, suffix::DELAYED, suffix::LEASED, suffix::FAILED, suffix::EXPIRING];
        for index in indices.into_iter().chain([suffix::PURGED_PRIORITIZED]) {
            for id in self.scan("ZSCAN", index, 2).await? {
                lists_by_id.entry(id).or_default();
            }
        }
        for set in [suffix::REMOVED, suffix::ERASED, suffix::BLOCKING, suffix::CANCELLING, suffix::PURGED_REMOVED] {
            for id in self.scan("SSCAN", set, 1).await? {
                lists_by_id.entry(id).or_default();
            }
        }
        for member in self.scan("ZSCAN", suffix::HELD, 2).await? {
            lists_by_id.entry(id_of_held(&member).unwrap_or_default().to_owned()).or_default();
        }
        for groups in [suffix::GROUPS, suffix::PURGED_GROUPS] {
            let stored_values = self.scan("HSCAN", groups, 1).await?.into_iter().skip(1).step_by(2);
            for text in stored_values.filter(|text| !text.starts_with('/')) {
                let id = if text.len() == 14 { &text } else { text.get(8..22).unwrap_or_default() };
                lists_by_id.entry(id.to_owned()).or_default();
            }
        }
        for rest in [suffix::GROUP_REST, suffix::PURGED_GROUP_REST] {
            for member in self.scan("ZSCAN", rest, 2).await? {
                let id = member.split('\t').nth(1).and_then(|position| position.get(8..)).unwrap_or_default();
                lists_by_id.entry(id.to_owned()).or_default();
            }
        }
        let messages = lists_by_id.len();

        // The first check of a message uses the lists that the audit has read before. The second check of a suspect message reads
        // everything about the message at one instant.
        let ids: Vec<String> = lists_by_id.keys().cloned().collect();
        let mut suspect_ids = Vec::new();
        for chunk in ids.chunks(IDS_PER_STEP) {
            for (id, mut key_names) in chunk.iter().zip(self.key_names("index", chunk).await?) {
                key_names.extend(lists_by_id[id].iter().map(ToString::to_string));
                if find_problem(&key_names).is_some() {
                    suspect_ids.push(id.clone());
                }
            }
        }
        let mut findings = Vec::new();
        for chunk in suspect_ids.chunks(SUSPECTS_PER_STEP) {
            for (id, key_names) in chunk.iter().zip(self.key_names("list", chunk).await?) {
                if let Some(problem) = find_problem(&key_names) {
                    findings.push(Finding { id: id.clone(), problem });
                }
            }
        }
        findings.extend(self.audit_held().await?);
        findings.extend(self.audit_groups().await?);
        findings.extend(self.audit_schedules().await?);
        findings.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Audit { messages, findings })
    }

    /// Checks that each schedule has a message, and a next tick exactly if it is neither paused nor ended.
    async fn audit_schedules(&self) -> Result<Vec<Finding>> {
        let mut names = BTreeSet::new();
        names.extend(self.scan("HSCAN", suffix::SCHEDULES, 2).await?);
        names.extend(self.scan("HSCAN", suffix::SCHEDULE_MESSAGES, 2).await?);
        names.extend(self.scan("ZSCAN", suffix::TICKS, 2).await?);
        let mut findings = Vec::new();
        for name in names {
            if let Some(problem) = self.problem_of_schedule(&name).await? {
                findings.push(Finding { id: format!("schedule {name}"), problem });
            }
        }
        Ok(findings)
    }

    async fn key_names(&self, how: &str, ids: &[String]) -> Result<Vec<Vec<String>>> {
        let mut call = Call::new(&scripts::AUDIT, &self.keys).arg(how);
        for id in ids {
            call.push(id.as_str());
        }
        let key_names: Vec<String> = self.call(&scripts::AUDIT, call).await?;
        Ok(key_names.iter().map(|key_names| key_names.split_whitespace().map(str::to_owned).collect()).collect())
    }

    pub(super) async fn read_list(&self, suffix: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        loop {
            let mut range = redis::cmd("LRANGE");
            range.arg(self.keys.key(suffix)).arg(ids.len()).arg(ids.len() + IDS_PER_STEP - 1);
            let page: Vec<String> = reply::decode(self.redis.call(self.keys.slot(), &range).await?)?;
            let is_last = page.len() < IDS_PER_STEP;
            ids.extend(page);
            if is_last {
                return Ok(ids);
            }
        }
    }

    /// The ids in a hash or set; the reply of `command` has `width` values for each id.
    pub(super) async fn scan(&self, command: &str, suffix: &str, width: usize) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut cursor = String::from("0");
        loop {
            let mut scan_command = redis::cmd(command);
            scan_command.arg(self.keys.key(suffix)).arg(&cursor).arg("COUNT").arg(IDS_PER_STEP);
            let (next_cursor, page): (String, Vec<String>) =
                reply::decode(self.redis.call(self.keys.slot(), &scan_command).await?)?;
            ids.extend(page.into_iter().step_by(width));
            cursor = next_cursor;
            if cursor == "0" {
                return Ok(ids);
            }
        }
    }
}

/// Returns the problem of the message that is in these keys; `None` if the message has no problem.
fn find_problem(key_names: &[String]) -> Option<String> {
    let is_in_key = |key_name: &str| key_names.iter().any(|known| known == key_name);
    let mut states: Vec<&str> =
        key_names.iter().map(String::as_str).filter(|key_name| STATE_SUFFIXES.contains(key_name)).collect();
    // A removed message may leave its id in the middle of a list. The id of a removed message is marked as removed in another key until
    // the id reaches the head of the list and is dropped.
    for (list, mark) in LISTS_AND_MARKS {
        if is_in_key(mark) {
            match states.iter().position(|state| *state == list) {
                Some(index) => drop(states.remove(index)),
                None => return Some(format!("the message is in the key {mark}, but not in {list}")),
            }
        }
    }
    if key_names.is_empty() {
        return None; // The message was removed during the audit.
    }
    if !is_in_key(suffix::MESSAGES) {
        let is_only_marked_removed = key_names
            .iter()
            .all(|key_name| LISTS_AND_MARKS.iter().any(|(list, mark)| key_name == list || key_name == mark));
        return (!states.is_empty() || !is_only_marked_removed)
            .then(|| format!("the message has no record, but is in the keys {}", key_names.join(", ")));
    }
    let [state] = states[..] else {
        return Some(format!("the message is in {} states: {}", states.len(), key_names.join(", ")));
    };
    let finished = matches!(state, suffix::COMPLETED | suffix::FAILED);
    if finished != is_in_key(suffix::OUTCOMES) {
        return Some(format!(
            "the message is in the key {state}, but has {} outcome",
            if finished { "no" } else { "an" }
        ));
    }
    if finished && is_in_key(suffix::RUNS) {
        return Some(format!("the message is in the key {state}, but has a run"));
    }
    for (mark, belongs_to) in [
        (suffix::BLOCKING, &[suffix::DELAYED][..]),
        (suffix::CANCELLING, &[suffix::LEASED]),
        (
            suffix::EXPIRING,
            &[
                suffix::HELD,
                suffix::DELAYED,
                suffix::WAITING,
                suffix::PRIORITIZED,
                suffix::PURGED,
                suffix::PURGED_PRIORITIZED,
                "grouped",
                "purged_grouped",
            ],
        ),
    ] {
        if is_in_key(mark) && !belongs_to.contains(&state) {
            return Some(format!("the message is in the keys {state} and {mark}"));
        }
    }
    if (state == suffix::LEASED) != is_in_key("token") {
        return Some(format!(
            "the message is in the key {state}, but has {} token",
            if state == suffix::LEASED { "no" } else { "a" }
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::find_problem;

    fn key_names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn audit_accepts_a_message_in_one_state_with_its_index_entries() {
        for right in [
            "",
            "messages waiting",
            "messages options prioritized runs",
            "messages leased runs token",
            "messages completed outcomes",
            "messages failed outcomes",
            "messages completed outcomes waiting removed",
            "waiting removed",
            "completed erased",
            "messages held options expiring",
            "messages held options runs signalled",
            "messages options grouped runs expiring",
            "messages options purged_grouped",
            "messages delayed runs blocking",
            "messages leased runs token cancelling progress signalled",
            "messages purged runs expiring",
            "messages purged_prioritized options",
            "messages waiting runs purged purged_removed",
            "purged purged_removed",
        ] {
            assert_eq!(find_problem(&key_names(right)), None, "{right}");
        }
    }

    #[test]
    fn audit_reports_a_message_in_several_states_or_without_a_record() {
        for wrong in [
            "messages",
            "waiting",
            "options",
            "messages waiting waiting",
            "messages waiting delayed",
            "messages completed",
            "messages waiting outcomes",
            "messages leased",
            "messages waiting runs token",
            "messages completed outcomes runs",
            "messages completed outcomes removed",
            "messages completed outcomes erased",
            "messages held waiting",
            "messages held options runs token",
            "messages held options blocking",
            "messages leased runs token expiring",
            "messages waiting blocking",
            "messages options grouped waiting",
            "messages options grouped token runs",
            "messages waiting purged",
            "messages waiting purged_removed",
            "messages delayed cancelling",
            "progress",
            "waiting removed signalled",
        ] {
            assert!(find_problem(&key_names(wrong)).is_some(), "{wrong}");
        }
    }
}

//! Reads schedules from Redis, and decodes them.

use deadpool_redis::redis::Value;

use crate::{
    error::Result,
    limits,
    names::ScheduleName,
    queue::{Call, Queue},
    redis::{reply, scripts},
    schedule::stored::{ParsedRules, StoredSchedule, decode_message},
    time::Timestamp,
};

/// The schedules that a call reads.
pub(crate) enum WhichSchedules<'a> {
    /// The schedules with these names.
    Named(&'a [ScheduleName]),
    /// The schedules that come after this name in the order of their names, at most this number.
    After(&'a str, usize),
}

/// The parts of each schedule that a call reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleParts {
    /// The call reads all stored parts of a schedule except the message that the schedule posts.
    Brief,
    /// The call reads all stored parts of a schedule, including the message that the schedule posts.
    Full,
}

/// Schedules as one call read them, not yet decoded.
pub(crate) struct FetchedSchedules {
    /// The time by Redis's clock at which the schedules were read, in µs.
    pub(crate) now_us: u64,
    queue_exists: bool,
    has_more: bool,
    /// For each schedule four texts: the name, the state, the next instant, and the message.
    texts: Vec<String>,
}

/// Schedules as one call read them.
pub(crate) struct LoadedSchedules {
    /// The time by Redis's clock at which the schedules were read, in µs.
    now_us: u64,
    /// Whether the queue exists.
    pub(crate) queue_exists: bool,
    /// Whether more schedules follow.
    pub(crate) has_more: bool,
    /// The name of the last schedule that was read.
    pub(crate) last_name: Option<String>,
    /// The schedules that exist, each with the stored text of its message, which is empty unless it was read. For a schedule that
    /// can't be decoded, the list has an error.
    pub(crate) schedules: Vec<Result<(StoredSchedule, String)>>,
}

impl FetchedSchedules {
    /// Decodes the schedules. The function may parse a thousand cron patterns, so it must not run in an async task.
    pub(crate) fn decode(self, known: &ParsedRules) -> LoadedSchedules {
        let Self { now_us, queue_exists, has_more, texts } = self;
        let last_name = texts.chunks_exact(4).next_back().map(|four| four[0].clone());
        let mut schedules = Vec::with_capacity(texts.len() / 4);
        let mut texts = texts.into_iter();
        while let (Some(name), Some(state), Some(next), Some(message)) =
            (texts.next(), texts.next(), texts.next(), texts.next())
        {
            if !state.is_empty() {
                schedules.push(StoredSchedule::decode(&name, &state, &next, known).map(|stored| (stored, message)));
            }
        }
        LoadedSchedules { now_us, queue_exists, has_more, last_name, schedules }
    }
}

impl LoadedSchedules {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_us / 1_000)
    }

    /// Returns the schedule of a call that read one schedule by its name; `None` if the queue has no schedule of this name.
    pub(crate) fn into_single_schedule(mut self) -> Result<Option<(StoredSchedule, String)>> {
        self.schedules.pop().transpose()
    }
}

impl Queue {
    /// Reads schedules, and decodes them.
    pub(super) async fn load_schedules(
        &self,
        which: WhichSchedules<'_>,
        extent: ScheduleParts,
    ) -> Result<LoadedSchedules> {
        let fetched_schedules = self.fetch_schedules(which, extent).await?;
        self.calculations.run(move || fetched_schedules.decode(&ParsedRules::new())).await
    }

    pub(super) async fn fetch_schedule(&self, name: &ScheduleName, extent: ScheduleParts) -> Result<FetchedSchedules> {
        self.fetch_schedules(WhichSchedules::Named(std::slice::from_ref(name)), extent).await
    }

    pub(crate) async fn fetch_schedules(
        &self,
        which: WhichSchedules<'_>,
        extent: ScheduleParts,
    ) -> Result<FetchedSchedules> {
        let extent_text = if extent == ScheduleParts::Full { "full" } else { "brief" };
        let mut call = Call::new(&scripts::SCHEDULES, &self.keys).arg(extent_text);
        match which {
            WhichSchedules::Named(names) => {
                call.push("names");
                for name in names {
                    call.push(name.as_str());
                }
            }
            WhichSchedules::After(name, limit) => {
                call = call.arg("after").arg(name).arg(limit.clamp(1, limits::MAX_SCHEDULES));
            }
        }
        let mut answer: Vec<Value> = self.call(&scripts::SCHEDULES, call).await?;
        let found_values = answer.split_off(answer.len().min(3));
        let (now_us, queue_exists, has_more): (u64, bool, bool) = reply::decode(Value::Array(answer))?;
        Ok(FetchedSchedules { now_us, queue_exists, has_more, texts: reply::decode(Value::Array(found_values))? })
    }

    /// Checks the stored parts of a schedule, and returns the problem; `None` if there is no problem.
    pub(super) async fn problem_of_schedule(&self, name: &str) -> Result<Option<String>> {
        let call = Call::new(&scripts::SCHEDULES, &self.keys).arg("full").arg("names").arg(name);
        let mut answer: Vec<Value> = self.call(&scripts::SCHEDULES, call).await?;
        let parts = answer.split_off(answer.len().min(3));
        let (_, state, next, message): (String, String, String, String) = reply::decode(Value::Array(parts))?;
        if state.is_empty() {
            let is_gone = next.is_empty() && message.is_empty();
            return Ok((!is_gone).then(|| "a tick or a message, but no state".into()));
        }
        let name = name.to_owned();
        let decode = move || StoredSchedule::decode(&name, &state, &next, &ParsedRules::new());
        let Ok(stored) = self.calculations.run(decode).await? else {
            return Ok(Some("the schedule's state can't be read".into()));
        };
        if decode_message(&message).is_none() {
            return Ok(Some("the schedule's message is missing or can't be read".into()));
        }
        // A schedule with `end_at` may have ended, because it has no tick after that instant.
        let may_have_ended = stored.has_ended() || stored.rule.end_at.is_some();
        Ok(match stored.next {
            Some(_) if stored.is_paused => Some("paused, but with a next tick".into()),
            None if !stored.is_paused && !may_have_ended => {
                Some("neither paused nor ended, but without a next tick".into())
            }
            _ => None,
        })
    }
}

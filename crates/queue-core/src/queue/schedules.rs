//! The schedules of a queue: clients read, pause, resume, run and delete schedules.

use crate::{
    error::{Error, Result},
    limits,
    message::{Message, MessageRef, record::EncodedMessage},
    names::{QueueName, ScheduleName},
    queue::{
        Call, Enqueued, Queue,
        enqueue::WhenFull,
        load_schedules::{ScheduleParts, WhichSchedules},
    },
    redis::scripts,
    schedule::{
        Schedule,
        rule::Rule,
        stored::{ParsedRules, StoredSchedule, decode_message},
    },
    time::Timestamp,
};

/// The number of next ticks that an answer about a schedule shows.
const SHOWN_TICKS: usize = 5;
/// The maximum number of times that one call reads and writes a schedule, because other clients may change it at the same time.
pub(super) const MAX_TRIES: usize = 30;

impl Queue {
    /// The maximum number of schedules of a queue.
    pub const MAX_SCHEDULES: usize = limits::MAX_SCHEDULES;

    /// Reads a schedule; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn schedule(&self, name: &ScheduleName) -> Result<Option<Schedule>> {
        let fetched_schedules = self.fetch_schedule(name, ScheduleParts::Full).await?;
        let queue = self.name.clone();
        let show = move || {
            let loaded_schedules = fetched_schedules.decode(&ParsedRules::new());
            let now = loaded_schedules.now();
            let single_schedule = loaded_schedules.into_single_schedule()?;
            single_schedule.map(|(stored, message)| show_schedule(&queue, &stored, &message, now)).transpose()
        };
        self.calculations.run(show).await?
    }

    /// The schedules that come after a name, in the order of their names, up to `limit` and 4 MiB, and whether more follow. Returns
    /// `None` if the queue does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn schedules(&self, after: Option<&ScheduleName>, limit: usize) -> Result<Option<(Vec<Schedule>, bool)>> {
        let which_schedules = WhichSchedules::After(after.map_or("", ScheduleName::as_str), limit);
        let fetched_schedules = self.fetch_schedules(which_schedules, ScheduleParts::Full).await?;
        let queue = self.name.clone();
        let show = move || {
            let loaded_schedules = fetched_schedules.decode(&ParsedRules::new());
            if !loaded_schedules.queue_exists {
                return Ok(None);
            }
            let (now, has_more) = (loaded_schedules.now(), loaded_schedules.has_more);
            let shown_schedules = loaded_schedules.schedules.into_iter().map(|schedule| {
                let (stored, message) = schedule?;
                show_schedule(&queue, &stored, &message, now)
            });
            Ok(Some((shown_schedules.collect::<Result<_>>()?, has_more)))
        };
        self.calculations.run(show).await?
    }

    /// Pauses a schedule: it has no ticks until it is resumed. Returns whether the schedule exists.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool> {
        self.change_schedule(name, "pause", None).await.map(|changed| changed.is_some())
    }

    /// Ends the pause of a schedule. Ticks that came while the schedule was paused are not posted. Returns whether the schedule exists.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool> {
        for _ in 0..MAX_TRIES {
            let fetched_schedules = self.fetch_schedule(name, ScheduleParts::Brief).await?;
            let find_next_tick = move || {
                let loaded_schedules = fetched_schedules.decode(&ParsedRules::new());
                let now = loaded_schedules.now();
                let Some((stored, _)) = loaded_schedules.into_single_schedule()? else { return Ok::<_, Error>(None) };
                let next_tick =
                    if stored.has_ended() { None } else { stored.rule.next_after(stored.next_tick_bound(now)) };
                Ok(Some((stored.revision, next_tick)))
            };
            let Some((revision, next_tick)) = self.calculations.run(find_next_tick).await?? else { return Ok(false) };
            match self.change_schedule(name, "resume", Some((&revision, next_tick))).await? {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        Err(Error::Unavailable("other clients change the schedule all the time".into()))
    }

    /// Deletes a schedule; its messages stay. Returns whether the schedule existed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool> {
        self.change_schedule(name, "delete", None).await.map(|changed| changed.is_some())
    }

    /// Changes a schedule. Returns `None` if the schedule does not exist, and false if it has changed since the caller read it.
    async fn change_schedule(
        &self,
        name: &ScheduleName,
        change: &str,
        resume: Option<(&str, Option<Timestamp>)>,
    ) -> Result<Option<bool>> {
        let mut call = Call::new(&scripts::CHANGE_SCHEDULE, &self.keys).arg(name.as_str()).arg(change);
        if let Some((revision, next)) = resume {
            call = call.arg(revision).arg(next.map(|next| next.as_millis().to_string()).unwrap_or_default());
        }
        self.call(&scripts::CHANGE_SCHEDULE, call).await
    }

    /// Posts the message of a schedule now, even if the schedule is paused or has ended. A message that is posted by `run_schedule`
    /// does not count as a run of the schedule, and the ticks of the schedule stay as they are. Returns `None` if the schedule does
    /// not exist.
    ///
    /// If Redis does not answer, whether the message is stored is unknown, and the message is not sent to Redis again.
    ///
    /// # Errors
    ///
    /// The errors of [`enqueue`](Self::enqueue).
    pub async fn run_schedule(&self, name: &ScheduleName) -> Result<Option<Message>> {
        let which_schedules = WhichSchedules::Named(std::slice::from_ref(name));
        let loaded_schedules = self.load_schedules(which_schedules, ScheduleParts::Full).await?;
        let now = loaded_schedules.now();
        let Some((_, text)) = loaded_schedules.into_single_schedule()? else { return Ok(None) };
        let message = decode_message(&text).ok_or_else(|| Error::unexpected("malformed message of a schedule"))?;
        let encoded_message = EncodedMessage::of(&message).posted_by(name).scheduled_at(now);
        let answers = self.send(&[encoded_message], WhenFull::RefuseAll, None).await?;
        let answer = answers.first().ok_or_else(|| Error::unexpected("no answer"))?;
        match self.decode_outcome(message, answer)? {
            Enqueued::Created(mut message) => {
                (message.schedule, message.scheduled_at) = (Some(name.clone()), Some(now));
                Ok(Some(message))
            }
            other => Err(Error::unexpected(other)),
        }
    }
}

/// Returns a schedule as clients read it.
pub(super) fn show_schedule(
    queue: &QueueName,
    stored: &StoredSchedule,
    message: &str,
    now: Timestamp,
) -> Result<Schedule> {
    let message = decode_message(message)
        .ok_or_else(|| Error::unexpected(format_args!("malformed message of schedule {}", stored.name)))?;
    Ok(Schedule {
        name: stored.name.clone(),
        queue: queue.clone(),
        message,
        paused: stored.is_paused,
        declared: stored.is_declared,
        next_at: next_ticks(stored, now),
        last_at: stored.last_at,
        last_message: stored.last_id.clone().map(MessageRef::Id),
        runs: stored.runs,
        rule: Rule::clone(&stored.rule),
    })
}

/// Returns the next ticks of a schedule that an answer shows. If the stored next tick is later than now, the answer shows the stored
/// next tick first, because the schedule has no earlier tick.
fn next_ticks(stored: &StoredSchedule, now: Timestamp) -> Vec<Timestamp> {
    let Some(next) = stored.next else { return Vec::new() };
    let runs_left = stored.rule.max_runs.map_or(u64::MAX, |max| max.unsigned_abs().saturating_sub(stored.runs));
    let tick_count = SHOWN_TICKS.min(usize::try_from(runs_left).unwrap_or(SHOWN_TICKS));
    let just_before_next = Timestamp::from_millis(next.as_millis().saturating_sub(1));
    stored.rule.ticks_after(just_before_next.max(now), tick_count)
}

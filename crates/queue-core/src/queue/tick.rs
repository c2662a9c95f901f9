//! The ticks of a queue's schedules: processes post the messages of the ticks that are due.

use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    names::ScheduleName,
    queue::{
        Call, Queue,
        load_schedules::{LoadedSchedules, ScheduleParts, WhichSchedules},
    },
    redis::{reply, scripts},
    schedule::{rule::DueTicks, stored::StoredSchedule},
    time::Timestamp,
};

/// A plan for the due ticks of one schedule: for which of these ticks a message is posted, and which tick comes next.
pub(crate) struct Plan<'a> {
    pub(crate) schedule: &'a StoredSchedule,
    /// The next tick of the schedule as the caller has read it; another process may have posted it since.
    pub(crate) known: Timestamp,
    pub(crate) due: DueTicks,
}

/// The outcome of a plan that says for which due ticks of a schedule messages are posted. `TickOutcome` is public only for tests.
#[doc(hidden)]
#[derive(Debug)]
pub struct TickOutcome {
    /// How many messages were posted; `None` if the plan was not carried out, because the schedule has changed since the caller read
    /// it, or no tick is due.
    pub posted: Option<usize>,
    /// How many ticks were left out because an earlier message is unfinished.
    pub left_out: usize,
    /// The revision of the stored schedule; empty if the schedule does not exist.
    pub revision: String,
    /// The next tick of the schedule, as Redis has stored it after the plan was carried out or refused.
    pub next: Option<Timestamp>,
}

/// The schedules of a queue as a process read them before it posts due ticks. Only tests use this type.
#[doc(hidden)]
pub struct KnownSchedules(LoadedSchedules);

impl KnownSchedules {
    /// The name and the revision of each schedule, in the order of the names.
    pub fn revisions(&self) -> impl Iterator<Item = (&ScheduleName, &str)> {
        self.schedules().map(|schedule| (&schedule.name, schedule.revision.as_str()))
    }

    fn schedules(&self) -> impl Iterator<Item = &StoredSchedule> {
        self.0.schedules.iter().flatten().map(|(schedule, _)| schedule)
    }
}

impl Queue {
    /// Reads all schedules, as a [`Scheduler`](crate::schedule::Scheduler) does, which also forgets the name of a queue without
    /// schedules. Only tests call this function.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    #[doc(hidden)]
    pub async fn read_schedules_to_tick(&self) -> Result<KnownSchedules> {
        let which_schedules = WhichSchedules::After("", limits::MAX_SCHEDULES);
        let loaded_schedules = self.load_schedules(which_schedules, ScheduleParts::Brief).await?;
        if loaded_schedules.schedules.is_empty() {
            self.forget_name_of_schedules().await?;
        }
        Ok(KnownSchedules(loaded_schedules))
    }

    /// Posts the messages of the ticks that are due by the clock of a process that knows these schedules: at most `max_posts`
    /// messages of each schedule. Returns the outcome for each schedule for which the process has a plan. Only tests call this
    /// function.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::OtherLayout`].
    #[doc(hidden)]
    pub async fn tick_known_schedules(
        &self,
        known: &KnownSchedules,
        now: Timestamp,
        max_posts: usize,
    ) -> Result<Vec<(ScheduleName, TickOutcome)>> {
        let plans = known.schedules().filter_map(|schedule| {
            let known_tick = schedule.next?;
            Some(Plan {
                schedule,
                known: known_tick,
                due: schedule.rule.plan_due_ticks(known_tick, now)?.with_at_most_posts(max_posts),
            })
        });
        let plans: Vec<Plan<'_>> = plans.collect();
        if plans.is_empty() {
            return Ok(Vec::new());
        }
        let (_, ticked) = self.tick(&plans).await?;
        Ok(plans.iter().map(|plan| plan.schedule.name.clone()).zip(ticked).collect())
    }

    /// Posts the messages of all ticks that are due now, and returns the number of messages. Only tests call this function.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::OtherLayout`].
    #[doc(hidden)]
    pub async fn tick_due(&self) -> Result<usize> {
        let known_schedules = self.read_schedules_to_tick().await?;
        let ticked = self.tick_known_schedules(&known_schedules, known_schedules.0.now(), 1).await?;
        Ok(ticked.iter().filter_map(|(_, ticked)| ticked.posted).sum())
    }

    /// Posts the messages of due ticks according to `plans`, each of which is carried out only if its schedule has not changed since
    /// the caller read the schedule. Returns Redis's time in µs, and the outcomes in the order of the plans. A call of `tick` may be
    /// repeated: the messages of a plan are posted only once.
    pub(crate) async fn tick(&self, plans: &[Plan<'_>]) -> Result<(u64, Vec<TickOutcome>)> {
        let mut call = Call::new(&scripts::TICK, &self.keys);
        let instant_text =
            |instant: Option<Timestamp>| instant.map(|at| at.as_millis().to_string()).unwrap_or_default();
        for Plan { schedule, known, due } in plans {
            call = call.arg(schedule.name.as_str()).arg(&schedule.revision).arg(known.as_millis());
            call = call
                .arg(due.newest.as_millis())
                .arg(instant_text(due.valid_until))
                .arg(instant_text(due.next))
                .arg(due.posts.len());
            for post in &due.posts {
                call.push(post.as_millis());
            }
        }
        let mut answer: Vec<Value> = self.call(&scripts::TICK, call).await?;
        let outcomes = answer.split_off(answer.len().min(1));
        let (now_us,): (u64,) = reply::decode(Value::Array(answer))?;
        let outcomes = outcomes.chunks_exact(4).map(|four| {
            let (posted, left_out, revision, next_tick): (i64, usize, String, String) =
                reply::decode(Value::Array(four.to_vec()))?;
            let next_tick = next_tick.parse().ok().map(Timestamp::from_millis);
            Ok(TickOutcome { posted: usize::try_from(posted).ok(), left_out, revision, next: next_tick })
        });
        let outcomes: Vec<TickOutcome> = outcomes.collect::<Result<_>>()?;
        if outcomes.len() != plans.len() {
            return Err(Error::unexpected(format_args!("{} answers to {} plans", outcomes.len(), plans.len())));
        }
        Ok((now_us, outcomes))
    }
}

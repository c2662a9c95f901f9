//! The scheduler posts the messages of all schedules when their ticks are due.
//!
//! Any number of processes may run a scheduler. Each scheduler knows the next tick of each schedule, and calls `tick.lua` when a tick
//! is due by its estimate of Redis's clock. For each tick, the first call of the script posts the message, and later calls return the
//! next tick.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::seq::IteratorRandom;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    error::{Error, Result},
    limits,
    names::{QueueName, ScheduleName},
    outage_log::OutageLog,
    queue::{Extent, Plan, Queue, Queues, TickOutcome, WhichSchedules},
    redis::Retry,
    schedule::{clock::ServerClock, rule::Rule, stored::StoredSchedule},
    time::Timestamp,
    wakeup::{OutdatedSchedules, ScheduleChanges, Subscriber, WakeTimers},
};

/// The interval at which all queues with schedules are read again, because a notification may be lost.
const CHECK_ALL_EVERY: Duration = Duration::from_secs(60);
/// The pause between two queues when all queues with schedules are read again.
const PAUSE_BETWEEN_QUEUES: Duration = Duration::from_millis(5);
/// The interval at which Redis's clock is read, because it may have stepped.
const READ_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a tick that was refused is tried again.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// The maximum number of queues whose schedules are read or ticked at a time.
const MAX_CONCURRENT: usize = 32;
/// The maximum number of calls for one queue before other queues have their turn.
const MAX_CALLS: usize = 10;

/// Posts the messages of all schedules when their ticks are due.
///
/// The scheduler sleeps until a tick is due. In addition, it reads Redis's clock once a second while there are schedules.
pub struct Scheduler {
    queues: Queues,
    subscriber: Subscriber,
    changes: Arc<ScheduleChanges>,
    timers: WakeTimers,
    known: Mutex<HashMap<QueueName, Arc<QueueSchedules>>>,
}

/// The schedules of one queue, as far as this process knows them.
struct QueueSchedules {
    queue: Arc<Queue>,
    outdated: Mutex<OutdatedSchedules>,
    /// The state of the schedules. The lock is held while a call for the queue runs.
    state: tokio::sync::Mutex<SchedulesState>,
}

/// The schedules of one queue, and the estimate of the clock of the queue's server.
struct SchedulesState {
    schedules: HashMap<ScheduleName, KnownSchedule>,
    clock: ServerClock,
    retry: Retry,
}

/// A schedule that this process has read.
struct KnownSchedule {
    schedule: StoredSchedule,
    /// The instant before which a refused tick is not tried again.
    refused_until: Option<Instant>,
}

impl Scheduler {
    /// Returns a scheduler, or `None` if `subscriber` was not made by [`for_all_queues`](Subscriber::for_all_queues). The caller must run
    /// the subscriber.
    pub fn new(queues: Queues, subscriber: Subscriber) -> Option<Self> {
        let changes = Arc::clone(subscriber.schedule_changes()?);
        Some(Self { queues, subscriber, changes, timers: WakeTimers::default(), known: Mutex::default() })
    }

    /// Posts messages until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let scheduler = Arc::new(self);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = scheduler.check_all_repeatedly() => {}
            () = scheduler.take_changes_repeatedly() => {}
            () = scheduler.watch_clocks() => {}
            () = Arc::clone(&scheduler).tick_due() => {}
        }
    }

    /// Reads all schedules at the start, after each new subscription, because notifications may have been missed, and at a fixed
    /// interval.
    async fn check_all_repeatedly(&self) {
        let mut connection = self.subscriber.connection();
        let mut checks = interval(CHECK_ALL_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_first = true;
        loop {
            let is_urgent = tokio::select! {
                _ = checks.tick() => mem::take(&mut is_first),
                changed = connection.changed() => {
                    // The sender of the channel is never dropped before, because `self.subscriber` owns the sender.
                    if changed.is_err() {
                        return;
                    }
                    *connection.borrow_and_update()
                }
            };
            let mut retry = Retry::new();
            let mut names = loop {
                match self.queues.names_with_schedules().await {
                    Ok(names) => break names,
                    Err(_) => sleep(retry.pause()).await,
                }
            };
            names.extend(self.known.lock().keys().cloned());
            names.sort_unstable();
            names.dedup();
            let pause_between_queues = if is_urgent { Duration::ZERO } else { PAUSE_BETWEEN_QUEUES };
            for (n, name) in (0_u32..).zip(names) {
                self.schedules_of_queue(&name).outdated.lock().add(OutdatedSchedules::All);
                self.timers.set(name, pause_between_queues.saturating_mul(n));
            }
        }
    }

    /// Takes the notifications about schedules, and makes the changed schedules be read again.
    async fn take_changes_repeatedly(&self) {
        loop {
            for (name, changed) in self.changes.next().await {
                self.schedules_of_queue(&name).outdated.lock().add(changed);
                self.timers.set(name, Duration::ZERO);
            }
        }
    }

    /// Compares Redis's clock with the estimate, each time for a queue chosen at random. After a step of the clock, ticks that were far
    /// in the future may be due.
    async fn watch_clocks(&self) {
        loop {
            sleep(READ_CLOCK_EVERY).await;
            let queue_schedules = self.known.lock().values().choose(&mut rand::rng()).cloned();
            let Some(queue_schedules) = queue_schedules else { continue };
            let Ok(mut state) = queue_schedules.state.try_lock() else { continue };
            let sent = Instant::now();
            // An error is ignored here. If the error lasts, it is logged when a tick is due.
            if let Ok(loaded) =
                queue_schedules.queue.load_known_schedules(WhichSchedules::Named(&[]), Extent::Brief, |_, _| None).await
            {
                self.observe(&mut state.clock, sent, loaded.now_us);
            }
        }
    }

    /// Updates the estimate by the time in a reply that has just arrived. After a step of Redis's clock, all schedules are read again.
    fn observe(&self, clock: &mut ServerClock, sent: Instant, now_us: u64) {
        if clock.observe(sent, Instant::now(), now_us) {
            let known_schedules = self.known.lock();
            for (name, of_queue) in known_schedules.iter() {
                of_queue.outdated.lock().add(OutdatedSchedules::All);
                self.timers.set(name.clone(), Duration::ZERO);
            }
        }
    }

    async fn tick_due(self: Arc<Self>) {
        let mut running_tasks = JoinSet::new();
        let mut outage_log = OutageLog::new("schedules can't be ticked", "schedules are ticked again");
        loop {
            let name = self.timers.next().await;
            while running_tasks.len() >= MAX_CONCURRENT {
                // The result of a task that panicked is ignored; the other tasks go on.
                if let Some(Ok(result)) = running_tasks.join_next().await {
                    outage_log.note_result(result);
                }
            }
            while let Some(done) = running_tasks.try_join_next() {
                if let Ok(result) = done {
                    outage_log.note_result(result);
                }
            }
            let scheduler = Arc::clone(&self);
            running_tasks.spawn(async move { scheduler.tick_queue(name).await });
        }
    }

    /// Returns the known schedules of a queue. At first all schedules of the queue are outdated.
    fn schedules_of_queue(&self, name: &QueueName) -> Arc<QueueSchedules> {
        let mut known_schedules = self.known.lock();
        let new = || {
            let state = SchedulesState { schedules: HashMap::new(), clock: ServerClock::new(), retry: Retry::new() };
            Arc::new(QueueSchedules {
                queue: self.queues.queue(name),
                outdated: Mutex::new(OutdatedSchedules::All),
                state: tokio::sync::Mutex::new(state),
            })
        };
        Arc::clone(known_schedules.entry(name.clone()).or_insert_with(new))
    }

    /// Reads the outdated schedules of a queue again, posts the messages of due ticks, and sets the timer for the next tick.
    async fn tick_queue(&self, name: QueueName) -> Result<()> {
        let queue_schedules = self.schedules_of_queue(&name);
        let mut state = queue_schedules.state.lock().await;
        let result = self.tick_locked_queue(&queue_schedules, &mut state).await;
        match &result {
            Ok(Some(pause)) => self.timers.set(name, *pause),
            // The queue has no schedules. A later notification sets the timer, and then all schedules of the queue are read.
            Ok(None) => drop(self.known.lock().remove(&name)),
            Err(_) => self.timers.set(name, state.retry.pause()),
        }
        result.map(drop)
    }

    /// Does the work of [`tick_queue`](Self::tick_queue) under the lock of the queue's state. Returns the pause until the next tick;
    /// `None` if the queue has no schedules.
    async fn tick_locked_queue(
        &self,
        of_queue: &QueueSchedules,
        state: &mut SchedulesState,
    ) -> Result<Option<Duration>> {
        for _ in 0..MAX_CALLS {
            let outdated_schedules = mem::take(&mut *of_queue.outdated.lock());
            if outdated_schedules != OutdatedSchedules::None
                && let Err(error) = self.read(&of_queue.queue, state, &outdated_schedules).await
            {
                of_queue.outdated.lock().add(outdated_schedules);
                return Err(error);
            }
            if state.schedules.is_empty() {
                of_queue.queue.forget_name_of_schedules().await?;
                return Ok(None);
            }
            let plans = state.plans();
            if plans.is_empty() {
                state.retry.reset();
                return Ok(Some(state.pause()));
            }
            let sent = Instant::now();
            match of_queue.queue.tick(&plans).await {
                Ok((now_us, outcomes)) => {
                    let planned_ticks: Vec<_> = plans
                        .iter()
                        .map(|plan| (plan.schedule.name.clone(), plan.due.posts.len(), plan.due.newest))
                        .collect();
                    self.observe(&mut state.clock, sent, now_us);
                    for ((schedule, planned_ticks, newest), outcome) in planned_ticks.into_iter().zip(outcomes) {
                        self.count_ticks(&outcome, planned_ticks, newest, now_us);
                        let has_changed = state.apply(&schedule, planned_ticks, &outcome);
                        of_queue.outdated.lock().add(has_changed);
                    }
                }
                Err(Error::OutOfMemory) => {
                    let planned_names: Vec<ScheduleName> =
                        plans.iter().map(|plan| plan.schedule.name.clone()).collect();
                    self.queues.tick_metrics().count("refused", planned_names.len());
                    for schedule in &planned_names {
                        state.delay_refused_tick(schedule);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Duration::ZERO))
    }

    async fn read(&self, queue: &Queue, state: &mut SchedulesState, outdated: &OutdatedSchedules) -> Result<()> {
        let mut found_schedules: HashMap<ScheduleName, KnownSchedule> = HashMap::new();
        let mut last_name = String::new();
        loop {
            let names: Vec<ScheduleName>;
            let which_schedules = match outdated {
                OutdatedSchedules::None => return Ok(()),
                OutdatedSchedules::Some(changed) => {
                    names = changed.iter().cloned().collect();
                    WhichSchedules::Named(&names)
                }
                OutdatedSchedules::All => WhichSchedules::After(&last_name, limits::MAX_SCHEDULES),
            };
            let sent = Instant::now();
            let rule_of = |name: &str, revision: &str| state.rule_of(name, revision);
            let loaded_schedules = queue.load_known_schedules(which_schedules, Extent::Brief, rule_of).await?;
            self.observe(&mut state.clock, sent, loaded_schedules.now_us);
            if let Some((last, _)) = loaded_schedules.schedules.last() {
                last.name.as_str().clone_into(&mut last_name);
            }
            for (schedule, _) in loaded_schedules.schedules {
                let is_orphaned = schedule.is_declared && !queue.declares_schedule(&schedule.name);
                if is_orphaned && !state.schedules.contains_key(&schedule.name) {
                    let text = "the configuration no longer declares a schedule: it stays until it is deleted";
                    info!(queue = %queue.name(), schedule = %schedule.name, "{text}");
                }
                found_schedules.insert(schedule.name.clone(), KnownSchedule { schedule, refused_until: None });
            }
            if !loaded_schedules.has_more {
                break;
            }
        }
        match outdated {
            OutdatedSchedules::All => state.schedules = found_schedules,
            OutdatedSchedules::Some(changed) => {
                state.schedules.retain(|name, _| !changed.contains(name));
                state.schedules.extend(found_schedules);
            }
            OutdatedSchedules::None => {}
        }
        Ok(())
    }

    fn count_ticks(&self, outcome: &TickOutcome, planned: usize, newest: Timestamp, now_us: u64) {
        let metrics = self.queues.tick_metrics();
        let Some(posted) = outcome.posted else { return };
        metrics.count("posted", posted);
        metrics.count("left_out", outcome.left_out);
        metrics.count("refused", planned.saturating_sub(posted + outcome.left_out));
        if posted > 0 {
            let lateness_us = now_us.saturating_sub(newest.as_millis() * 1_000);
            metrics.observe_lateness(Duration::from_micros(lateness_us).as_secs_f64());
        }
    }
}

impl SchedulesState {
    /// Returns the rule of a schedule, if the schedule is known with this revision.
    fn rule_of(&self, name: &str, revision: &str) -> Option<Arc<Rule>> {
        let known_schedule =
            self.schedules.get(name).filter(|known_schedule| known_schedule.schedule.revision == revision)?;
        Some(Arc::clone(&known_schedule.schedule.rule))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_us() / 1_000)
    }

    /// Returns the plans for schedules that have due ticks, as many plans as fit into one call.
    fn plans(&self) -> Vec<Plan<'_>> {
        let (now, instant) = (self.now(), Instant::now());
        let (mut plans, mut messages, mut bytes) = (Vec::new(), 0, 0);
        for KnownSchedule { schedule, refused_until } in self.schedules.values() {
            let Some(known) = schedule.next else { continue };
            if known > now || refused_until.is_some_and(|until| until > instant) {
                continue;
            }
            let ticks_by_bytes = limits::MAX_BYTES.saturating_sub(bytes) / schedule.bytes.max(1);
            let runs_left =
                schedule.rule.max_runs.map_or(u64::MAX, |max| max.unsigned_abs().saturating_sub(schedule.runs));
            let ticks_by_runs = usize::try_from(runs_left).unwrap_or(usize::MAX);
            let room_in_call = (limits::MAX_MESSAGES - messages).min(ticks_by_bytes);
            if plans.len() == limits::MAX_MESSAGES || (room_in_call == 0 && !plans.is_empty()) {
                break;
            }
            let Some(due) = schedule.rule.plan_due_ticks(known, now, room_in_call.min(ticks_by_runs).max(1)) else {
                continue;
            };
            messages += due.posts.len();
            bytes += due.posts.len() * schedule.bytes;
            plans.push(Plan { schedule, known, due });
        }
        plans
    }

    /// Applies the outcome of a plan for `planned` ticks to the known schedule. Returns the schedules that must be read again.
    fn apply(&mut self, name: &ScheduleName, planned: usize, outcome: &TickOutcome) -> OutdatedSchedules {
        let Some(known) = self.schedules.get_mut(name) else { return OutdatedSchedules::None };
        if outcome.revision != known.schedule.revision {
            return OutdatedSchedules::Some([name.clone()].into());
        }
        known.schedule.next = outcome.next;
        let Some(posted) = outcome.posted else { return OutdatedSchedules::None };
        known.schedule.runs += posted as u64;
        known.refused_until = None;
        if posted + outcome.left_out < planned {
            self.delay_refused_tick(name);
        }
        OutdatedSchedules::None
    }

    fn delay_refused_tick(&mut self, name: &ScheduleName) {
        if let Some(known) = self.schedules.get_mut(name) {
            known.refused_until = Some(Instant::now() + PAUSE_AFTER_REFUSAL);
        }
    }

    /// Returns the pause until the next tick, or until a refused tick is tried again.
    fn pause(&self) -> Duration {
        let (now_us, now) = (self.clock.now_us(), Instant::now());
        let pauses = self.schedules.values().filter_map(|KnownSchedule { schedule, refused_until }| {
            let due = Duration::from_micros((schedule.next?.as_millis() * 1_000).saturating_sub(now_us));
            Some(due.max(refused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))))
        });
        pauses.min().unwrap_or(CHECK_ALL_EVERY)
    }
}

//! The scheduler posts the messages of all schedules when their ticks are due.
//!
//! Any number of processes may run a scheduler. Each scheduler knows the next tick of each schedule, and calls `tick.lua` when a tick
//! is due by its estimate of Redis's clock. For each tick, the first call of `tick.lua` posts the message, and later calls return the
//! next tick. The tick after the next tick is found before the next tick is due, so that only the call of `tick.lua` is left when a
//! tick is due.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::seq::IteratorRandom;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    error::{Error, Result},
    limits,
    names::{QueueName, ScheduleName},
    outage_log::OutageLog,
    queue::{Queue, Queues, ScheduleParts, TickOutcome, WhichSchedules},
    redis::Retry,
    schedule::{
        calculations::Calculations,
        clock::ServerClock,
        known::SchedulesState,
        preparation::{PendingSearches, PreparedTicks},
    },
    time::Timestamp,
    wakeup::{OutdatedSchedules, ScheduleChanges, Subscriber, WakeTimers},
};

/// The interval at which all queues with schedules are read again, because a notification may be lost.
const CHECK_ALL_EVERY: Duration = Duration::from_secs(60);
/// The pause between two queues when all queues with schedules are read again.
const PAUSE_BETWEEN_QUEUES: Duration = Duration::from_millis(5);
/// The interval at which Redis's clock is read, because it may have stepped.
const READ_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// The maximum number of queues whose schedules are read or ticked at a time.
const MAX_CONCURRENT_QUEUES: usize = 32;
/// The maximum number of calls for one queue before other queues have their turn.
const MAX_CALLS_PER_TURN: usize = 10;

/// Posts the messages of all schedules when their ticks are due.
///
/// The scheduler sleeps until a tick is due. While there are schedules, the scheduler also reads Redis's clock once a second.
pub struct Scheduler {
    queues: Queues,
    subscriber: Subscriber,
    changes: Arc<ScheduleChanges>,
    timers: WakeTimers,
    known: Mutex<HashMap<QueueName, Arc<QueueSchedules>>>,
    /// The pending searches for ticks of schedules.
    searches: Arc<PendingSearches>,
    /// Runs the calculations of the scheduler, which do not wait for the calculations of requests.
    calculations: Calculations,
}

/// The schedules of one queue, as far as this process knows them.
struct QueueSchedules {
    queue: Arc<Queue>,
    outdated: Mutex<OutdatedSchedules>,
    /// Ticks that a search found, and that `state` has not taken yet.
    prepared_ticks: Mutex<Vec<PreparedTicks>>,
    /// The known schedules. The lock of the known schedules is held while a call for the queue runs.
    state: tokio::sync::Mutex<SchedulesState>,
}

impl Scheduler {
    /// Returns a scheduler, or `None` if `subscriber` was not made by [`for_all_queues`](Subscriber::for_all_queues). The caller of `new`
    /// must run the subscriber.
    pub fn new(queues: Queues, subscriber: Subscriber) -> Option<Self> {
        let changes = Arc::clone(subscriber.schedule_changes()?);
        let (timers, known, searches) = (WakeTimers::default(), Mutex::default(), Arc::default());
        Some(Self { queues, subscriber, changes, timers, known, searches, calculations: Calculations::default() })
    }

    /// Posts the messages of due ticks until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let scheduler = Arc::new(self);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = scheduler.check_all_repeatedly() => {}
            () = scheduler.take_schedule_changes_repeatedly() => {}
            () = scheduler.watch_clocks() => {}
            () = scheduler.prepare_ticks() => {}
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
                    // The sender of `connection` is not dropped while `check_all_repeatedly` runs, because `self.subscriber` owns
                    // this sender.
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

    /// Takes the notifications about changed schedules, and marks these schedules as outdated, so that they are read again.
    async fn take_schedule_changes_repeatedly(&self) {
        loop {
            for (name, changed) in self.changes.next().await {
                self.schedules_of_queue(&name).outdated.lock().add(changed);
                self.timers.set(name, Duration::ZERO);
            }
        }
    }

    /// Reads the clock of the Redis server of a queue, each time of a queue chosen at random, and compares it with the estimate of
    /// this clock. After a step of the clock, ticks that were far in the future may be due.
    async fn watch_clocks(&self) {
        loop {
            sleep(READ_CLOCK_EVERY).await;
            let queue_schedules = self.known.lock().values().choose(&mut rand::rng()).cloned();
            let Some(queue_schedules) = queue_schedules else { continue };
            let Ok(mut state) = queue_schedules.state.try_lock() else { continue };
            let sent_at = Instant::now();
            // An error of reading the clock is ignored, because an outage is logged when a tick is due.
            let no_schedules = WhichSchedules::Named(&[]);
            if let Ok(fetched) = queue_schedules.queue.fetch_schedules(no_schedules, ScheduleParts::Brief).await {
                self.observe_clock(&mut state.clock, sent_at, fetched.now_us);
            }
        }
    }

    /// Updates the estimate of Redis's clock by the time in a reply that has just arrived. After a step of Redis's clock, all schedules
    /// are read again.
    fn observe_clock(&self, clock: &mut ServerClock, sent: Instant, now_us: u64) {
        if clock.observe(sent, Instant::now(), now_us) {
            let known_schedules = self.known.lock();
            for (name, queue_schedules) in known_schedules.iter() {
                queue_schedules.outdated.lock().add(OutdatedSchedules::All);
                self.timers.set(name.clone(), Duration::ZERO);
            }
        }
    }

    /// Performs the requested searches for ticks, and hands the found ticks to the schedules of their queues.
    async fn prepare_ticks(&self) {
        loop {
            self.searches.wait_for_searches().await;
            let searches = Arc::clone(&self.searches);
            // If a search panics, the ticks of its schedules are not known until the schedules are read again.
            let Ok(prepared_ticks) = self.calculations.run(move || searches.perform_searches_for_a_while()).await
            else {
                continue;
            };
            for (name, ticks) in prepared_ticks {
                let queue_schedules = self.known.lock().get(&name).cloned();
                // If the queue is no longer known, its schedules are read again before their next tick, so the found ticks are not
                // needed.
                if let Some(queue_schedules) = queue_schedules {
                    queue_schedules.prepared_ticks.lock().extend(ticks);
                    self.timers.set(name, Duration::ZERO);
                }
            }
        }
    }

    async fn tick_due(self: Arc<Self>) {
        let mut running_tasks = JoinSet::new();
        let mut outage_log = OutageLog::new("schedules can't be ticked", "schedules are ticked again");
        loop {
            let name = self.timers.next().await;
            while running_tasks.len() >= MAX_CONCURRENT_QUEUES {
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
        let new_schedules = || {
            Arc::new(QueueSchedules {
                queue: self.queues.queue(name),
                outdated: Mutex::new(OutdatedSchedules::All),
                prepared_ticks: Mutex::default(),
                state: tokio::sync::Mutex::new(SchedulesState::new()),
            })
        };
        Arc::clone(known_schedules.entry(name.clone()).or_insert_with(new_schedules))
    }

    /// Reads the outdated schedules of a queue again, posts the messages of due ticks, and sets the timer for the next tick.
    async fn tick_queue(&self, name: QueueName) -> Result<()> {
        let queue_schedules = self.schedules_of_queue(&name);
        let mut state = queue_schedules.state.lock().await;
        let result = self.tick_locked_queue(&queue_schedules, &mut state).await;
        match &result {
            Ok(Some(pause)) => self.timers.set(name, *pause),
            // The queue has no schedules. A notification about a new schedule sets the timer, and then all schedules of the queue
            // are read.
            Ok(None) => drop(self.known.lock().remove(&name)),
            Err(_) => self.timers.set(name, state.retry.pause()),
        }
        result.map(drop)
    }

    /// Does the work of [`tick_queue`](Self::tick_queue) under the lock of the queue's state. Returns the pause until the next tick;
    /// `None` if the queue has no schedules.
    async fn tick_locked_queue(
        &self,
        queue_schedules: &QueueSchedules,
        state: &mut SchedulesState,
    ) -> Result<Option<Duration>> {
        for _ in 0..MAX_CALLS_PER_TURN {
            let outdated_schedules = mem::take(&mut *queue_schedules.outdated.lock());
            if outdated_schedules != OutdatedSchedules::None
                && let Err(error) = self.read(&queue_schedules.queue, state, &outdated_schedules).await
            {
                queue_schedules.outdated.lock().add(outdated_schedules);
                return Err(error);
            }
            if state.is_empty() {
                queue_schedules.queue.forget_name_of_schedules().await?;
                return Ok(None);
            }
            for ticks in mem::take(&mut *queue_schedules.prepared_ticks.lock()) {
                state.take(ticks);
            }
            let plans = state.plans();
            if plans.is_empty() {
                state.retry.reset();
                self.searches.add(state.request_searches(queue_schedules.queue.name()));
                return Ok(Some(state.pause().unwrap_or(CHECK_ALL_EVERY)));
            }
            let sent_at = Instant::now();
            match queue_schedules.queue.tick(&plans).await {
                Ok((now_us, outcomes)) => {
                    let planned_ticks: Vec<_> = plans
                        .iter()
                        .map(|plan| (plan.schedule.name.clone(), plan.due.posts.len(), plan.due.newest))
                        .collect();
                    self.observe_clock(&mut state.clock, sent_at, now_us);
                    for ((schedule, planned_ticks, newest), outcome) in planned_ticks.into_iter().zip(outcomes) {
                        self.count_ticks(&outcome, planned_ticks, newest, now_us);
                        let changed_schedules = state.apply(&schedule, planned_ticks, &outcome);
                        queue_schedules.outdated.lock().add(changed_schedules);
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
        let known_rules = Arc::new(state.rules(outdated));
        let mut found_schedules = Vec::new();
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
            let sent_at = Instant::now();
            let fetched_schedules = queue.fetch_schedules(which_schedules, ScheduleParts::Brief).await?;
            self.observe_clock(&mut state.clock, sent_at, fetched_schedules.now_us);
            let known_rules = Arc::clone(&known_rules);
            let loaded_schedules = self.calculations.run(move || fetched_schedules.decode(&known_rules)).await?;
            last_name = loaded_schedules.last_name.unwrap_or_default();
            for schedule in loaded_schedules.schedules {
                let (schedule, _) = match schedule {
                    Ok(schedule) => schedule,
                    // A damaged schedule does not stop the other schedules of the queue.
                    Err(error) => {
                        warn!(queue = %queue.name(), %error, "a schedule can't be read, so it has no ticks: delete it, and put it again");
                        continue;
                    }
                };
                let is_orphaned = schedule.is_declared && !queue.declares_schedule(&schedule.name);
                if is_orphaned && !state.has(&schedule.name) {
                    let notice = "the configuration no longer declares a schedule: it stays until it is deleted";
                    info!(queue = %queue.name(), schedule = %schedule.name, "{notice}");
                }
                found_schedules.push(schedule);
            }
            if !loaded_schedules.has_more {
                break;
            }
        }
        state.replace(outdated, found_schedules);
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

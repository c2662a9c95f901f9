//! The schedules of one queue as far as a scheduler knows them, with the ticks that were found before they are due. As the next
//! ticks of a schedule are found before they are due, no search is needed at the instant at which a tick is due.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    limits,
    names::{QueueName, ScheduleName},
    queue::{Plan, TickOutcome},
    redis::Retry,
    schedule::{
        clock::ServerClock,
        preparation::{NextTicks, PreparedTicks, TickSearch},
        stored::{ParsedRules, StoredSchedule},
    },
    time::Timestamp,
    wakeup::OutdatedSchedules,
};

/// The pause before the scheduler tries again to post a tick that was refused, for example because its queue was full.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// The schedules of one queue, and the estimate of the clock of the queue's server.
pub(super) struct SchedulesState {
    schedules: HashMap<ScheduleName, KnownSchedule>,
    pub(super) clock: ServerClock,
    pub(super) retry: Retry,
}

/// A schedule that this process has read.
struct KnownSchedule {
    schedule: StoredSchedule,
    ticks: TickSearchState,
    /// The instant before which the scheduler does not try again to post the schedule's next tick, because this tick was refused.
    refused_until: Option<Instant>,
}

/// The state of the search for the ticks of a schedule from its next tick on.
enum TickSearchState {
    /// No search for the next ticks of the schedule was requested.
    Nothing,
    /// A search for the next ticks of the schedule was requested.
    SearchRequested,
    /// A search has found the next ticks of the schedule.
    Known(NextTicks),
}

impl KnownSchedule {
    fn is_tick_refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| until > now)
    }

    /// Whether the scheduler can post the next tick when this tick is due, without a search for ticks.
    fn is_ready(&self) -> bool {
        !self.schedule.rule.needs_search() || matches!(self.ticks, TickSearchState::Known(_))
    }

    /// Sets the next tick of the schedule. If the next tick is another instant than before, a new search for the ticks after it is
    /// needed.
    fn set_next_tick(&mut self, next: Option<Timestamp>) {
        if self.schedule.next != next {
            self.ticks = TickSearchState::Nothing;
        }
        self.schedule.next = next;
    }
}

impl SchedulesState {
    pub(super) fn new() -> Self {
        Self { schedules: HashMap::new(), clock: ServerClock::new(), retry: Retry::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.schedules.is_empty()
    }

    pub(super) fn has(&self, name: &ScheduleName) -> bool {
        self.schedules.contains_key(name)
    }

    /// Returns the known rules of those schedules that must be read again.
    pub(super) fn rules(&self, outdated: &OutdatedSchedules) -> ParsedRules {
        let is_outdated = |name: &ScheduleName| match outdated {
            OutdatedSchedules::None => false,
            OutdatedSchedules::Some(names) => names.contains(name),
            OutdatedSchedules::All => true,
        };
        let outdated_schedules = self.schedules.iter().filter(|(name, _)| is_outdated(name));
        outdated_schedules
            .map(|(name, KnownSchedule { schedule, .. })| {
                (name.as_str().to_owned(), (schedule.revision.clone(), Arc::clone(&schedule.rule)))
            })
            .collect()
    }

    /// Replaces the outdated schedules by `read`, the schedules that were read from Redis. The ticks that a search found for an
    /// unchanged schedule are kept.
    pub(super) fn replace(&mut self, outdated: &OutdatedSchedules, read: Vec<StoredSchedule>) {
        let mut replaced_schedules = match outdated {
            OutdatedSchedules::None => return,
            OutdatedSchedules::Some(names) => self.schedules.extract_if(|name, _| names.contains(name)).collect(),
            OutdatedSchedules::All => std::mem::take(&mut self.schedules),
        };
        for schedule in read {
            let known_schedule = replaced_schedules
                .remove(&schedule.name)
                .filter(|known| known.schedule.revision == schedule.revision && known.schedule.next == schedule.next);
            let ticks = match known_schedule {
                Some(KnownSchedule { ticks: TickSearchState::Known(ticks), .. }) => TickSearchState::Known(ticks),
                // A pending search is requested again, so that a lost search delays a schedule only until the schedule is read again.
                _ => TickSearchState::Nothing,
            };
            let name = schedule.name.clone();
            self.schedules.insert(name, KnownSchedule { schedule, ticks, refused_until: None });
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_us() / 1_000)
    }

    /// Returns searches for the ticks that are not known yet, and marks these searches as requested.
    pub(super) fn request_searches(&mut self, queue: &QueueName) -> Vec<TickSearch> {
        let (now, instant) = (self.now(), Instant::now());
        let new_searches = self.schedules.values_mut().filter_map(|known_schedule| {
            let is_missing = matches!(known_schedule.ticks, TickSearchState::Nothing)
                && !known_schedule.is_ready()
                && !known_schedule.is_tick_refused(instant);
            let next_tick = known_schedule.schedule.next.filter(|_| is_missing)?;
            known_schedule.ticks = TickSearchState::SearchRequested;
            let StoredSchedule { name, revision, rule, .. } = &known_schedule.schedule;
            Some(TickSearch {
                queue: queue.clone(),
                schedule: name.clone(),
                revision: revision.clone(),
                rule: Arc::clone(rule),
                next: next_tick,
                now,
            })
        });
        new_searches.collect()
    }

    /// Takes the ticks that a search found, unless the schedule has changed since the search was requested.
    pub(super) fn take(&mut self, prepared: PreparedTicks) {
        let PreparedTicks { schedule, revision, next, ticks } = prepared;
        if let Some(known_schedule) = self.schedules.get_mut(&schedule)
            && known_schedule.schedule.revision == revision
            && known_schedule.schedule.next == Some(next)
        {
            known_schedule.ticks = TickSearchState::Known(ticks);
        }
    }

    /// Returns a plan for each schedule with due ticks, which says which of these ticks to post; as many plans as fit into one
    /// call.
    pub(super) fn plans(&mut self) -> Vec<Plan<'_>> {
        let (now, instant) = (self.now(), Instant::now());
        let (mut plans, mut messages, mut bytes) = (Vec::new(), 0, 0);
        for known_schedule in self.schedules.values_mut() {
            let is_tick_refused = known_schedule.is_tick_refused(instant);
            let KnownSchedule { schedule, ticks, .. } = known_schedule;
            let Some(next_tick) = schedule.next.filter(|next| *next <= now && !is_tick_refused) else { continue };
            let ticks_by_bytes = limits::MAX_BYTES.saturating_sub(bytes) / schedule.bytes.max(1);
            let room_in_call = (limits::MAX_MESSAGES - messages).min(ticks_by_bytes);
            if plans.len() == limits::MAX_MESSAGES || (room_in_call == 0 && !plans.is_empty()) {
                break;
            }
            let due = match ticks {
                _ if !schedule.rule.needs_search() => schedule.rule.plan_due_ticks(next_tick, now),
                TickSearchState::Known(NextTicks::Following(following))
                    if following.is_none_or(|following| now < following) =>
                {
                    Some(schedule.rule.plan_single_tick(next_tick, *following, now))
                }
                TickSearchState::Known(known_ticks) => {
                    // Several due ticks that a search found are taken for one call of `tick.lua`. If this call fails, a new search
                    // finds the due ticks again.
                    let due_ticks = known_ticks.take_due(now);
                    *ticks = TickSearchState::Nothing;
                    due_ticks
                }
                TickSearchState::Nothing | TickSearchState::SearchRequested => None,
            };
            let runs_left =
                schedule.rule.max_runs.map_or(u64::MAX, |max| max.unsigned_abs().saturating_sub(schedule.runs));
            let ticks_by_runs = usize::try_from(runs_left).unwrap_or(usize::MAX);
            let Some(due) = due.map(|due| due.with_at_most_posts(room_in_call.min(ticks_by_runs).max(1))) else {
                continue;
            };
            messages += due.posts.len();
            bytes += due.posts.len() * schedule.bytes;
            plans.push(Plan { schedule, known: next_tick, due });
        }
        plans
    }

    /// Updates the known schedule after `tick.lua` has posted, left out or refused its due ticks, of which `planned` were to post.
    /// Returns the schedules that must be read again.
    pub(super) fn apply(&mut self, name: &ScheduleName, planned: usize, outcome: &TickOutcome) -> OutdatedSchedules {
        let Some(known_schedule) = self.schedules.get_mut(name) else { return OutdatedSchedules::None };
        if outcome.revision != known_schedule.schedule.revision {
            return OutdatedSchedules::Some([name.clone()].into());
        }
        known_schedule.set_next_tick(outcome.next);
        let Some(posted) = outcome.posted else { return OutdatedSchedules::None };
        known_schedule.schedule.runs += posted as u64;
        known_schedule.refused_until = None;
        if posted + outcome.left_out < planned {
            self.delay_refused_tick(name);
        }
        OutdatedSchedules::None
    }

    pub(super) fn delay_refused_tick(&mut self, name: &ScheduleName) {
        if let Some(known_schedule) = self.schedules.get_mut(name) {
            known_schedule.refused_until = Some(Instant::now() + PAUSE_AFTER_REFUSAL);
        }
    }

    /// Returns the pause of the scheduler until the next tick of the queue, or until a refused tick is tried again; `None` if there
    /// is no tick. A schedule with a pending search for its ticks does not count, because the scheduler's pause ends when the found
    /// ticks arrive.
    pub(super) fn pause(&self) -> Option<Duration> {
        let (now_us, now) = (self.clock.now_us(), Instant::now());
        let schedules_without_search =
            self.schedules.values().filter(|known| !matches!(known.ticks, TickSearchState::SearchRequested));
        let pauses = schedules_without_search.filter_map(|KnownSchedule { schedule, refused_until, .. }| {
            let time_to_tick = Duration::from_micros((schedule.next?.as_millis() * 1_000).saturating_sub(now_us));
            Some(time_to_tick.max(refused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))))
        });
        pauses.min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schedule::{NewSchedule, matching_times::searches, preparation::PendingSearches, rule::Rule};

    fn instant_at(text: &str) -> Timestamp {
        serde_json::from_value(json!(text)).unwrap()
    }

    fn stored_schedule(name: &str, rule: Rule, next: Timestamp) -> StoredSchedule {
        StoredSchedule {
            name: name.parse().unwrap(),
            revision: "r".into(),
            runs: 0,
            last_at: None,
            last_id: None,
            is_paused: false,
            is_declared: false,
            bytes: 10,
            rule: Arc::new(rule),
            next: Some(next),
        }
    }

    fn cron_rule(pattern: &str) -> Rule {
        let json = json!({"cron": pattern, "timezone": "Africa/Cairo", "missed": "all", "message": {"data": 1}});
        serde_json::from_value::<NewSchedule>(json).unwrap().into_parts().0
    }

    fn set_clock(state: &mut SchedulesState, now: Timestamp) {
        state.clock = ServerClock::new();
        state.clock.observe(Instant::now(), Instant::now(), now.as_millis() * 1_000);
    }

    /// Performs all pending searches for the next ticks of schedules, and returns the number of searches.
    fn perform_searches(state: &mut SchedulesState) -> usize {
        let pending_searches = PendingSearches::default();
        let queue = "q".parse().unwrap();
        pending_searches.add(state.request_searches(&queue));
        assert!(state.request_searches(&queue).is_empty(), "a search is requested once");
        std::iter::from_fn(|| pending_searches.perform_one_search()).map(|(_, prepared)| state.take(prepared)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn plans_for_due_ticks_of_rare_patterns_take_no_search() {
        let tick = instant_at("2026-11-27T10:00:00Z");
        let patterns = ["0 12 * * *", "0 0-23/1 27 11 +5", "0 12 27 11 *", "0 12 * * 5#4"];
        let mut state = SchedulesState::new();
        let schedules =
            (0..500).map(|n| stored_schedule(&format!("s{n}"), cron_rule(patterns[n % patterns.len()]), tick));
        state.replace(&OutdatedSchedules::All, schedules.collect());
        set_clock(&mut state, instant_at("2026-11-27T09:59:00Z"));
        assert_eq!(perform_searches(&mut state), 500);
        assert!(state.plans().is_empty());
        assert_eq!(state.pause(), Some(Duration::from_secs(60)));

        // The schedules are read from Redis again, unchanged. The ticks that `perform_searches` has found for these schedules are
        // kept.
        let read_schedules = state.schedules.values().map(|known| known.schedule.clone()).collect();
        state.replace(&OutdatedSchedules::All, read_schedules);
        set_clock(&mut state, tick);
        let searches_before = searches::search_count();
        let plans = state.plans();
        assert_eq!((plans.len(), searches::search_count() - searches_before), (500, 0));
        for Plan { schedule, known, due } in plans {
            assert_eq!(Some(due), schedule.rule.plan_due_ticks(known, tick), "{:?}", schedule.rule.cron);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_due_ticks_are_found_before_their_plan_and_the_plan_is_used_once() {
        let (tick, now) = (instant_at("2026-11-27T10:00:00Z"), instant_at("2026-11-27T10:00:42.500Z"));
        let rule = cron_rule("*/5 * * * * *");
        let expected_ticks = rule.plan_due_ticks(tick, now);
        let mut state = SchedulesState::new();
        state.replace(&OutdatedSchedules::All, vec![stored_schedule("s", rule, tick)]);
        set_clock(&mut state, tick);
        assert_eq!(perform_searches(&mut state), 1);
        // The process is late: more than one tick is due, so the ticks that were found do not suffice.
        set_clock(&mut state, now);
        assert!(state.plans().is_empty());
        assert_eq!(state.pause(), Some(Duration::ZERO));
        assert_eq!(perform_searches(&mut state), 1);
        let searches_before = searches::search_count();
        let plans = state.plans();
        assert_eq!((plans.len(), searches::search_count() - searches_before), (1, 0));
        assert_eq!(Some(&plans[0].due), expected_ticks.as_ref());
        assert_eq!(plans[0].due.posts.len(), 9);
        assert!(state.plans().is_empty(), "the plan was used");
        // While a refused tick waits to be tried again, no search for the ticks of its schedule is requested.
        state.delay_refused_tick(&"s".parse().unwrap());
        assert_eq!(perform_searches(&mut state), 0);
        assert_eq!(state.pause(), Some(PAUSE_AFTER_REFUSAL));
        // Ticks that a search found before the schedule changed are ignored.
        state.schedules.values_mut().for_each(|known| known.refused_until = None);
        let pending_searches = PendingSearches::default();
        pending_searches.add(state.request_searches(&"q".parse().unwrap()));
        assert_eq!(state.pause(), None, "the arrival of the ticks ends the pause");
        state.schedules.values_mut().for_each(|known| known.set_next_tick(Some(now)));
        state.take(pending_searches.perform_one_search().unwrap().1);
        assert!(state.plans().is_empty());
    }
}

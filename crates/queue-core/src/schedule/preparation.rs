//! Finds the ticks of schedules before the ticks are due. A scheduler requests a search for the ticks that it does not know; one task
//! performs the requested searches, the most urgent one first, in a thread for blocking work.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    names::{QueueName, ScheduleName},
    schedule::rule::{DueTicks, Rule},
    time::Timestamp,
};

/// The time after which the scheduler receives the ticks that were found so far, even if more searches for ticks are pending.
const MAX_SEARCH_TIME: Duration = Duration::from_millis(2);

/// A requested search for the ticks of a schedule from its next tick on.
#[derive(Debug)]
pub(super) struct TickSearch {
    pub(super) queue: QueueName,
    pub(super) schedule: ScheduleName,
    pub(super) revision: String,
    pub(super) rule: Arc<Rule>,
    /// The next tick, as Redis has stored it.
    pub(super) next: Timestamp,
    /// Redis's time when the scheduler requested this search for ticks.
    pub(super) now: Timestamp,
}

/// The ticks from a schedule's next tick on.
#[derive(Debug)]
pub(super) enum NextTicks {
    /// At most the next tick of the schedule was due when the search for its ticks was requested. `Following` has the tick after
    /// the next tick of the schedule, if there is one.
    Following(Option<Timestamp>),
    /// Several ticks of the schedule were already due when the search for its next tick was requested.
    Due(DueTicks),
}

/// The ticks of a schedule that a search found.
#[derive(Debug)]
pub(super) struct PreparedTicks {
    pub(super) schedule: ScheduleName,
    pub(super) revision: String,
    pub(super) next: Timestamp,
    pub(super) ticks: NextTicks,
}

impl NextTicks {
    /// Returns the plan for several due ticks, if that plan is still valid.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<DueTicks> {
        match self {
            Self::Due(due) if due.valid_until.is_none_or(|until| now < until) => Some(due.clone()),
            _ => None,
        }
    }
}

impl TickSearch {
    fn find_ticks(self) -> (QueueName, PreparedTicks) {
        let Self { queue, schedule, revision, rule, next, now } = self;
        let following_tick = rule.next_after(next);
        let due_ticks =
            following_tick.filter(|following| *following <= now).and_then(|_| rule.plan_due_ticks(next, now));
        let ticks = due_ticks.map_or(NextTicks::Following(following_tick), NextTicks::Due);
        (queue, PreparedTicks { schedule, revision, next, ticks })
    }
}

/// The urgency of a search for the ticks of a schedule. The search for a tick that is due soon comes before searches for late
/// ticks, because a search for late ticks takes longer, and late ticks may wait a few milliseconds more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    is_late: bool,
    next: Timestamp,
    /// The number of the search for ticks in the order of the requests. Of two searches for equal instants, the first requested
    /// comes first.
    number: u64,
}

/// Searches for the ticks of schedules that were requested and not performed yet. There is at most one such search for each
/// schedule, unless the schedule was read again.
#[derive(Debug, Default)]
pub(super) struct PendingSearches {
    waiting_searches: Mutex<WaitingSearches>,
    search_added: Notify,
}

#[derive(Debug, Default)]
struct WaitingSearches {
    by_urgency: BTreeMap<Urgency, TickSearch>,
    count: u64,
}

impl PendingSearches {
    pub(super) fn add(&self, searches: Vec<TickSearch>) {
        if searches.is_empty() {
            return;
        }
        let mut waiting_searches = self.waiting_searches.lock();
        for search in searches {
            waiting_searches.count += 1;
            let urgency =
                Urgency { is_late: search.next <= search.now, next: search.next, number: waiting_searches.count };
            waiting_searches.by_urgency.insert(urgency, search);
        }
        self.search_added.notify_one();
    }

    /// Waits until a search for ticks is pending. Only one task may wait for pending searches at a time.
    pub(super) async fn wait_for_searches(&self) {
        while self.waiting_searches.lock().by_urgency.is_empty() {
            self.search_added.notified().await;
        }
    }

    /// Performs the most urgent search for the ticks of a schedule. Returns `None` if no search for ticks is pending.
    pub(super) fn perform_one_search(&self) -> Option<(QueueName, PreparedTicks)> {
        let (_, search) = self.waiting_searches.lock().by_urgency.pop_first()?;
        Some(search.find_ticks())
    }

    /// Searches for the next ticks of schedules, the most urgent search first, until about 2 ms have passed. Returns the found
    /// ticks by queue.
    pub(super) fn perform_searches_for_a_while(&self) -> BTreeMap<QueueName, Vec<PreparedTicks>> {
        let start = Instant::now();
        let mut prepared_ticks: BTreeMap<QueueName, Vec<PreparedTicks>> = BTreeMap::new();
        while let Some((queue, ticks)) = self.perform_one_search() {
            prepared_ticks.entry(queue).or_default().push(ticks);
            if start.elapsed() >= MAX_SEARCH_TIME {
                break;
            }
        }
        prepared_ticks
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schedule::NewSchedule;

    #[test]
    fn search_for_the_tick_that_is_due_first_comes_first_and_searches_for_late_ticks_last() {
        let definition = json!({"cron": "* * * * * *", "message": {"data": 1}});
        let rule = Arc::new(serde_json::from_value::<NewSchedule>(definition).unwrap().into_parts().0);
        let instant_at = |secs: u64| Timestamp::from_millis(secs * 1_000);
        let search = |name: &str, next| TickSearch {
            queue: "q".parse().unwrap(),
            schedule: name.parse().unwrap(),
            revision: String::new(),
            rule: Arc::clone(&rule),
            next: instant_at(next),
            now: instant_at(1_000),
        };
        let searches = PendingSearches::default();
        searches.add(vec![search("late", 900), search("far", 5_000), search("soon", 1_001), search("due", 1_000)]);
        let found_ticks: Vec<_> =
            std::iter::from_fn(|| searches.perform_one_search()).map(|(_, ticks)| ticks).collect();
        let names: Vec<&str> = found_ticks.iter().map(|ticks| ticks.schedule.as_str()).collect();
        assert_eq!(names, ["soon", "far", "late", "due"]);
        assert!(
            matches!(found_ticks[0].ticks, NextTicks::Following(Some(following)) if following == instant_at(1_002))
        );
        assert!(matches!(&found_ticks[2].ticks, NextTicks::Due(due) if due.next == Some(instant_at(1_001))));
        assert!(
            matches!(found_ticks[3].ticks, NextTicks::Following(Some(following)) if following == instant_at(1_001))
        );
    }
}

//! Finds the ticks of schedules before the ticks are due. A scheduler orders the ticks that it does not know; one task carries out the
//! orders, the most urgent one first, in a thread for blocking work.

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

/// The time after which the results of carried out orders are delivered, even if there are more orders.
const MAX_DURATION: Duration = Duration::from_millis(2);

/// An order for the ticks of a schedule from its next tick on.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) queue: QueueName,
    pub(super) schedule: ScheduleName,
    pub(super) revision: String,
    pub(super) rule: Arc<Rule>,
    /// The next tick, as Redis has stored it.
    pub(super) next: Timestamp,
    /// Redis's time when the ticks were ordered.
    pub(super) now: Timestamp,
}

/// The ticks from a schedule's next tick on.
#[derive(Debug)]
pub(super) enum Ticks {
    /// Not more than the next tick was due. The tick after the next tick, if there is one.
    Following(Option<Timestamp>),
    /// Several ticks were due.
    Due(DueTicks),
}

/// Ticks that were ordered.
#[derive(Debug)]
pub(super) struct PreparedTicks {
    pub(super) schedule: ScheduleName,
    pub(super) revision: String,
    pub(super) next: Timestamp,
    pub(super) ticks: Ticks,
}

impl Ticks {
    /// Returns the plan for several due ticks, if it is still valid.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<DueTicks> {
        match self {
            Self::Due(due) if due.valid_until.is_none_or(|until| now < until) => Some(due.clone()),
            _ => None,
        }
    }
}

impl Order {
    fn carry_out(self) -> (QueueName, PreparedTicks) {
        let Self { queue, schedule, revision, rule, next, now } = self;
        let following_tick = rule.next_after(next);
        let due_ticks =
            following_tick.filter(|following| *following <= now).and_then(|_| rule.plan_due_ticks(next, now));
        let ticks = due_ticks.map_or(Ticks::Following(following_tick), Ticks::Due);
        (queue, PreparedTicks { schedule, revision, next, ticks })
    }
}

/// The urgency of an order. An order of a tick that is due soon comes before orders of late ticks, because the search for late ticks
/// takes longer, and a few milliseconds do not matter to late ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    is_late: bool,
    next: Timestamp,
    /// The number of the order, which distinguishes orders of equal urgency.
    number: u64,
}

/// Orders that wait to be carried out. There is at most one order for each schedule, unless the schedule was read again.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting_orders: Mutex<WaitingOrders>,
    order_added: Notify,
}

#[derive(Debug, Default)]
struct WaitingOrders {
    by_urgency: BTreeMap<Urgency, Order>,
    count: u64,
}

impl Orders {
    pub(super) fn add(&self, orders: Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let mut waiting_orders = self.waiting_orders.lock();
        for order in orders {
            waiting_orders.count += 1;
            let urgency = Urgency { is_late: order.next <= order.now, next: order.next, number: waiting_orders.count };
            waiting_orders.by_urgency.insert(urgency, order);
        }
        self.order_added.notify_one();
    }

    /// Waits until there are orders. Only one task may wait at a time.
    pub(super) async fn wait_for_orders(&self) {
        while self.waiting_orders.lock().by_urgency.is_empty() {
            self.order_added.notified().await;
        }
    }

    /// Carries out the most urgent order. Returns `None` if there is no order.
    pub(super) fn carry_out_one(&self) -> Option<(QueueName, PreparedTicks)> {
        let (_, order) = self.waiting_orders.lock().by_urgency.pop_first()?;
        Some(order.carry_out())
    }

    /// Carries out orders for about 2 ms, and returns the ticks by queue.
    pub(super) fn carry_out_some(&self) -> BTreeMap<QueueName, Vec<PreparedTicks>> {
        let start = Instant::now();
        let mut prepared_ticks: BTreeMap<QueueName, Vec<PreparedTicks>> = BTreeMap::new();
        while let Some((queue, ticks)) = self.carry_out_one() {
            prepared_ticks.entry(queue).or_default().push(ticks);
            if start.elapsed() >= MAX_DURATION {
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
    fn order_for_the_tick_that_is_due_first_is_carried_out_first_and_orders_for_late_ticks_last() {
        let definition = json!({"cron": "* * * * * *", "message": {"data": 1}});
        let rule = Arc::new(serde_json::from_value::<NewSchedule>(definition).unwrap().into_parts().0);
        let instant_at = |secs: u64| Timestamp::from_millis(secs * 1_000);
        let order = |name: &str, next| Order {
            queue: "q".parse().unwrap(),
            schedule: name.parse().unwrap(),
            revision: String::new(),
            rule: Arc::clone(&rule),
            next: instant_at(next),
            now: instant_at(1_000),
        };
        let orders = Orders::default();
        orders.add(vec![order("late", 900), order("far", 5_000), order("soon", 1_001), order("due", 1_000)]);
        let found_ticks: Vec<_> = std::iter::from_fn(|| orders.carry_out_one()).map(|(_, ticks)| ticks).collect();
        let names: Vec<&str> = found_ticks.iter().map(|ticks| ticks.schedule.as_str()).collect();
        assert_eq!(names, ["soon", "far", "late", "due"]);
        assert!(matches!(found_ticks[0].ticks, Ticks::Following(Some(following)) if following == instant_at(1_002)));
        assert!(matches!(&found_ticks[2].ticks, Ticks::Due(due) if due.next == Some(instant_at(1_001))));
        assert!(matches!(found_ticks[3].ticks, Ticks::Following(Some(following)) if following == instant_at(1_001)));
    }
}

//! The rule of a schedule: at which instants it has ticks, and what happens to ticks that were missed.

use jiff::Timestamp as Instant;
use serde::{Deserialize, Deserializer, Serialize};
use strum::{EnumString, VariantNames};
use utoipa::ToSchema;

use crate::{
    json,
    range::{DurationIn, NumberIn},
    schedule::{cron::CronPattern, zone::Zone},
    time::{Millis, Timestamp},
};

/// The age from which a due tick counts as missed, even if it is the newest due tick of its schedule.
const MIN_AGE_OF_MISSED_TICK: Millis = Millis::from_secs(10);
/// The maximum number of missed ticks that are posted.
const MAX_MISSED_TICKS: usize = crate::limits::MAX_MESSAGES;

/// The interval of a schedule.
pub(crate) type Every = DurationIn<1_000, { Millis::from_days(3_650).get() }>;
/// The offset of a schedule's interval.
pub(crate) type Offset = DurationIn<0, { Millis::from_days(3_650).get() }>;
/// The number of messages after which a schedule ends.
pub(crate) type MaxRuns = NumberIn<1, 1_000_000_000>;

/// The rule by which a schedule posts its message. A rule has either a cron pattern or an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// The cron pattern, in the local time of `timezone`.
    #[schema(required, inline)]
    pub(crate) cron: Option<CronPattern>,
    /// The time zone of the pattern.
    #[schema(required, inline)]
    pub(crate) timezone: Option<Zone>,
    /// The interval, in milliseconds. The ticks are the multiples of the interval since 1970, plus `offset`.
    #[schema(required, value_type = Option<u64>)]
    pub(crate) every: Option<Every>,
    /// The offset of the ticks from the multiples of the interval, in milliseconds.
    #[schema(required, value_type = Option<u64>)]
    pub(crate) offset: Option<Offset>,
    /// The instant before which there are no ticks.
    #[schema(required)]
    pub(crate) start_at: Option<Timestamp>,
    /// The instant after which there are no ticks.
    #[schema(required)]
    pub(crate) end_at: Option<Timestamp>,
    /// The number of posted messages after which the schedule ends.
    #[schema(required, inline)]
    pub(crate) max_runs: Option<MaxRuns>,
    /// Defines what happens to missed ticks.
    pub(crate) missed: Missed,
    /// Defines what happens to a tick while the message of an earlier tick is unfinished.
    pub(crate) overlap: Overlap,
}

/// Defines what happens to ticks that no process could post in time. The newest due tick is current, and not missed, if it is less
/// than 10 s old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, EnumString, VariantNames, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Missed {
    /// Missed ticks are dropped.
    Skip,
    /// One message is posted for all missed ticks.
    #[default]
    One,
    /// A message is posted for each missed tick, up to the last 1,000.
    All,
}

impl<'de> Deserialize<'de> for Missed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::read_word(deserializer)
    }
}

/// Defines what happens to a tick while the message of an earlier tick is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, EnumString, VariantNames, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Overlap {
    /// A tick is posted, even while the message of an earlier tick is unfinished.
    #[default]
    Allow,
    /// A tick is left out while the message of an earlier tick is unfinished.
    Skip,
}

impl<'de> Deserialize<'de> for Overlap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::read_word(deserializer)
    }
}

/// The plan for the due ticks of a schedule: which of these ticks to post, and which tick is the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueTicks {
    /// The newest of the due ticks for which this plan was made. The plan must not be carried out before this tick.
    pub(crate) newest: Timestamp,
    /// The instant at which the newest due tick of this plan is 10 s old and so would count as missed. From this instant on, the
    /// plan is no longer valid.
    pub(crate) valid_until: Option<Timestamp>,
    /// The due ticks to post, oldest first. Due ticks of this plan that are not in `posts` are dropped.
    pub(crate) posts: Vec<Timestamp>,
    /// The next tick of the schedule after the due ticks of this plan.
    pub(crate) next: Option<Timestamp>,
}

impl Rule {
    /// Returns the first tick after an instant.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let just_before_start = self.start_at.map(|start| Timestamp::from_millis(start.as_millis().saturating_sub(1)));
        let after = just_before_start.map_or(after, |start| start.max(after));
        let next_tick = match (&self.cron, self.every) {
            (Some(cron), _) => {
                let zone = self.timezone.as_ref()?;
                to_timestamp(zone.next(cron, to_instant(after)?)?)?
            }
            (None, Some(every)) => {
                let offset = self.offset.map_or(0, |offset| offset.get());
                let passed_intervals = (after.as_millis() + every.get()).saturating_sub(offset) / every.get();
                Timestamp::from_millis(passed_intervals * every.get() + offset)
            }
            (None, None) => return None,
        };
        let is_within = next_tick < Timestamp::LIMIT && self.end_at.is_none_or(|end| next_tick <= end);
        is_within.then_some(next_tick)
    }

    /// Returns the last tick before an instant.
    pub(crate) fn last_before(&self, before: Timestamp) -> Option<Timestamp> {
        let before = self.end_at.map_or(before, |end| before.min(end + Millis::new(1)));
        let last_tick = match (&self.cron, self.every) {
            (Some(cron), _) => {
                let zone = self.timezone.as_ref()?;
                to_timestamp(zone.previous(cron, to_instant(before)?)?)?
            }
            (None, Some(every)) => {
                let offset = self.offset.map_or(0, |offset| offset.get());
                let passed_intervals = before.as_millis().checked_sub(offset + 1)? / every.get();
                Timestamp::from_millis(passed_intervals * every.get() + offset)
            }
            (None, None) => return None,
        };
        self.start_at.is_none_or(|start| last_tick >= start).then_some(last_tick)
    }

    /// Returns the next ticks after an instant, at most `count`.
    pub(crate) fn ticks_after(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(after), |tick| self.next_after(*tick)).take(count).collect()
    }

    /// Whether the ticks are found by a search for times that match the cron pattern. Such a search is too slow for the instant at
    /// which a tick is due, so the ticks are found before.
    pub(crate) fn needs_search(&self) -> bool {
        self.cron.is_some()
    }

    /// Returns the plan for the due ticks from `stored` to now, which says which of them are posted and which are dropped. `stored`
    /// is the next tick that Redis has stored. Returns `None` if no tick is due.
    pub(crate) fn plan_due_ticks(&self, stored: Timestamp, now: Timestamp) -> Option<DueTicks> {
        if stored > now {
            return None;
        }
        let following_tick = self.next_after(stored);
        if following_tick.is_none_or(|following| following > now) {
            return Some(self.plan_single_tick(stored, following_tick, now));
        }
        let last_tick_before = |before: Timestamp| self.last_before(before).filter(|tick| *tick >= stored);
        let newest_tick = last_tick_before(now + Millis::new(1)).unwrap_or(stored);
        let is_current = now.since(newest_tick) < MIN_AGE_OF_MISSED_TICK;
        let missed_tick = if is_current { last_tick_before(newest_tick) } else { Some(newest_tick) };
        let mut posts: Vec<Timestamp> = match self.missed {
            Missed::Skip => Vec::new(),
            Missed::One => missed_tick.into_iter().collect(),
            Missed::All => {
                let missed_count = MAX_MISSED_TICKS - usize::from(is_current);
                std::iter::successors(missed_tick, |tick| last_tick_before(*tick)).take(missed_count).collect()
            }
        };
        posts.reverse();
        posts.extend(is_current.then_some(newest_tick));
        if self.overlap == Overlap::Skip {
            posts.drain(..posts.len().saturating_sub(1));
        }
        let valid_until = is_current.then(|| newest_tick + MIN_AGE_OF_MISSED_TICK);
        Some(DueTicks { newest: newest_tick, valid_until, posts, next: self.next_after(newest_tick) })
    }

    /// Returns the plan for one due tick, which says whether this tick is posted. `following` is the tick after the due tick, and
    /// is not due yet. As the caller knows `following`, no search for ticks is needed.
    pub(crate) fn plan_single_tick(&self, tick: Timestamp, following: Option<Timestamp>, now: Timestamp) -> DueTicks {
        let is_current = now.since(tick) < MIN_AGE_OF_MISSED_TICK;
        let is_posted = is_current || self.missed != Missed::Skip;
        DueTicks {
            newest: tick,
            valid_until: is_current.then(|| tick + MIN_AGE_OF_MISSED_TICK),
            posts: is_posted.then_some(tick).into_iter().collect(),
            next: following,
        }
    }
}

impl DueTicks {
    /// Returns a plan that posts at most `max_posts` messages; ticks beyond that number stay due.
    pub(crate) fn with_at_most_posts(mut self, max_posts: usize) -> Self {
        let Some(rest) = self.posts.get(max_posts).copied() else { return self };
        self.posts.truncate(max_posts);
        let newest_tick = self.posts.last().copied().unwrap_or(self.newest);
        Self { newest: newest_tick, valid_until: None, posts: self.posts, next: Some(rest) }
    }
}

fn to_instant(timestamp: Timestamp) -> Option<Instant> {
    Instant::from_millisecond(timestamp.as_millis().try_into().ok()?).ok()
}

fn to_timestamp(instant: Instant) -> Option<Timestamp> {
    u64::try_from(instant.as_millisecond()).ok().map(Timestamp::from_millis)
}

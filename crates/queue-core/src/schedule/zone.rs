//! The instants at which a cron pattern matches in a time zone, with the rules for clock changes.
//!
//! A pattern that names one hour has one tick for each local time that matches. If the local time occurs twice, the tick is at its
//! first instant; if clocks skip the local time, the tick is at the end of the gap. A pattern that names several hours has a tick
//! at every instant whose local time matches, so its ticks follow the elapsed time.

use std::sync::LazyLock;

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    parse_error::ParseError,
    schedule::cron::{CronPattern, Hours, plus_seconds},
};

/// The database of time zones that is part of the program, so that every process computes the same ticks.
static TIME_ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The end of all ticks: 2200-01-01, in seconds since 1970.
const LAST_TICK_SECOND: i64 = 7_258_118_400;

/// More than twice the largest offset from UTC (26 hours), in seconds. Two instants that are three days apart show their local
/// times in the same order in every time zone.
const SECONDS_BEYOND_ANY_OFFSET: i64 = 3 * 86_400;

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

impl Zone {
    /// Returns the zone of coordinated universal time.
    pub(crate) fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Returns the name of the zone, such as `Europe/Berlin`.
    pub fn as_str(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Returns the first tick of a pattern after an instant.
    pub(crate) fn next(&self, pattern: &CronPattern, after: Timestamp) -> Option<Timestamp> {
        match pattern.hours() {
            Hours::One => {
                let mut local = self.latest_local(after, -1);
                loop {
                    local = pattern.first_match_after(local)?;
                    let tick = self.first_instant(local)?;
                    if tick > after {
                        return Some(tick);
                    }
                }
            }
            Hours::Several => {
                let (mut from, mut shift) = (after, 0);
                while from.as_second() < LAST_TICK_SECOND {
                    let zone_offset = self.0.to_offset(from);
                    let tick = zone_offset
                        .to_timestamp(pattern.first_match_after(plus_seconds(zone_offset.to_datetime(from), shift))?)
                        .ok()?;
                    match self.0.following(from).next() {
                        // If the offset changes before the tick, the tick is searched again from the change on, with the new
                        // offset. If the next change of the offset is at least `SECONDS_BEYOND_ANY_OFFSET` later than `from`, no
                        // instant between this change and `near_tick` matches with any offset, so the search skips these instants.
                        Some(change) if change.timestamp() <= tick => {
                            let change = change.timestamp();
                            let is_far = change.as_second() - from.as_second() >= SECONDS_BEYOND_ANY_OFFSET;
                            let near_tick =
                                Timestamp::from_second(tick.as_second() - SECONDS_BEYOND_ANY_OFFSET).ok()?;
                            (from, shift) = (if is_far { change.max(near_tick) } else { change }, -1);
                        }
                        _ => return Some(tick),
                    }
                }
                None
            }
        }
    }

    /// Returns the last tick of a pattern before an instant.
    pub(crate) fn previous(&self, pattern: &CronPattern, before: Timestamp) -> Option<Timestamp> {
        let before = whole_second(before)?;
        match pattern.hours() {
            Hours::One => {
                let mut local = self.latest_local(before, 0);
                loop {
                    local = pattern.last_match_before(local)?;
                    let tick = self.first_instant(local)?;
                    if tick < before {
                        return Some(tick);
                    }
                }
            }
            Hours::Several => {
                let mut search_end = before;
                while search_end.as_second() > 0 {
                    // `zone_offset` is the offset that is valid in the last second before `search_end`.
                    let zone_offset = self.0.to_offset(Timestamp::from_second(search_end.as_second() - 1).ok()?);
                    let tick = zone_offset
                        .to_timestamp(pattern.last_match_before(zone_offset.to_datetime(search_end))?)
                        .ok()?;
                    match self.0.preceding(search_end).next() {
                        Some(change) if change.timestamp() > tick => {
                            let change = change.timestamp();
                            let is_far = search_end.as_second() - change.as_second() >= SECONDS_BEYOND_ANY_OFFSET;
                            let near_tick =
                                Timestamp::from_second(tick.as_second() + SECONDS_BEYOND_ANY_OFFSET).ok()?;
                            search_end = if is_far { change.min(near_tick) } else { change };
                        }
                        _ => return Some(tick),
                    }
                }
                None
            }
        }
    }

    /// Returns the latest local time that clocks have shown up to an instant, from which a search for ticks starts. When clocks go
    /// back, they show an hour of local times twice. During the second pass of such an hour, `latest_local` returns the end of the
    /// hour plus `shift` seconds, because all local times of the hour have had their first instants.
    fn latest_local(&self, instant: Timestamp, shift: i64) -> DateTime {
        let local = self.0.to_datetime(instant);
        let next_second = Timestamp::from_second(instant.as_second() + 1).unwrap_or(instant);
        let Some(change) = self.0.preceding(next_second).next() else { return local };
        let last_before = Timestamp::from_second(change.timestamp().as_second() - 1).unwrap_or(instant);
        local.max(plus_seconds(self.0.to_datetime(last_before), 1 + shift))
    }

    /// Returns the first instant at which clocks show the local time, or the end of the gap if clocks skip the local time.
    fn first_instant(&self, local: DateTime) -> Option<Timestamp> {
        match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            // Clocks that go forward leave a gap in the local times. A local time in this gap, read with the offset after the gap,
            // is an instant before the gap.
            AmbiguousOffset::Gap { after, .. } => {
                let before_gap = after.to_timestamp(local).ok()?;
                let mut changes = self.0.following(before_gap);
                changes.find(|change| change.offset() == after).map(|change| change.timestamp())
            }
        }
    }
}

/// Returns the first whole second that is not before the instant.
fn whole_second(instant: Timestamp) -> Option<Timestamp> {
    let second = instant.as_second() + i64::from(instant.subsec_nanosecond() > 0);
    Timestamp::from_second(second).ok()
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.as_str().to_owned()
    }
}

impl TryFrom<String> for Zone {
    type Error = ParseError;

    fn try_from(name: String) -> Result<Self, ParseError> {
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Self::utc());
        }
        TIME_ZONES.get(&name).map(Self).map_err(|_| {
            "must be the name of a time zone in the IANA database, such as \"Europe/Berlin\" or \"UTC\"".into()
        })
    }
}

impl PartialSchema for Zone {
    fn schema() -> RefOr<Schema> {
        let text_schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(64));
        text_schema.examples(["Europe/Berlin"]).into()
    }
}

impl ToSchema for Zone {}

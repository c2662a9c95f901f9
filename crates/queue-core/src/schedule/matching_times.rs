//! The local times that match a parsed cron pattern, as sets of bits, so that a search takes a few microseconds even if the next
//! match is years away. The crate `croner` decides which days match the pattern.

use croner::{CronComponent, CronPattern, Weekday, errors::CronError};
use jiff::{
    ToSpan,
    civil::{Date, DateTime, Time},
};

/// The first year in which a search finds no time any more.
const END_YEAR: i16 = 2_200;
/// The last year before the years in which a search finds times.
const LAST_YEAR_BEFORE_SEARCH: i16 = 1_900;

/// The years of one cycle of the calendar: each combination of a month's length and the weekday of the month's first day occurs.
const CALENDAR_CYCLE: std::ops::Range<i16> = 2_000..2_028;

const WEEKDAYS: [Weekday; 7] = [
    Weekday::Sunday,
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
];

/// The local times that match a pattern. Bit `n` of a set stands for the number `n`.
#[derive(Debug, Clone)]
pub(super) struct MatchingTimes {
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    /// The matching days of a month, by the month's length (28 to 31), and by the weekday of the month's first day.
    days: [[u64; 7]; 4],
}

impl MatchingTimes {
    /// Returns the times that match a pattern.
    pub(super) fn of(pattern: &CronPattern) -> Result<Self, CronError> {
        let mut days = [[0; 7]; 4];
        let first_days =
            CALENDAR_CYCLE.flat_map(|year| (1..=12).filter_map(move |month| Date::new(year, month, 1).ok()));
        for first in first_days {
            let (length, weekday) = kind_of_month(first);
            if days[length][weekday] == 0 {
                for day in 1..=first.days_in_month() {
                    let (year, month) = (i32::from(first.year()), u32::from(first.month().unsigned_abs()));
                    let day = u32::from(day.unsigned_abs());
                    let weekday_of_day = WEEKDAYS[(weekday + day as usize - 1) % 7];
                    days[length][weekday] |= u64::from(pattern.day_match(year, month, day, weekday_of_day)?) << day;
                }
            }
        }
        let (seconds, minutes) = (set_of_numbers(&pattern.seconds), set_of_numbers(&pattern.minutes));
        Ok(Self {
            seconds,
            minutes,
            hours: set_of_numbers(&pattern.hours),
            months: set_of_numbers(&pattern.months),
            days,
        })
    }

    /// Returns the first matching time after `local`; `None` if no time before the year 2200 matches.
    pub(super) fn first_match_after(&self, local: DateTime) -> Option<DateTime> {
        #[cfg(test)]
        searches::count();
        let search_start = whole_second(local).checked_add(1.second()).ok()?;
        let (date, time) = (search_start.date(), search_start.time());
        if self.matching_days(date.year(), date.month()) & bit(date.day()) != 0
            && let Some(time) = self.first_time_from(time)
        {
            return Some(date.to_datetime(time)).filter(|found| found.year() < END_YEAR);
        }
        let first_time = self.first_time_from(Time::midnight())?;
        let (mut year, mut month, mut passed_day) = (date.year(), date.month(), date.day());
        while year < END_YEAR {
            if let Some(day) = lowest_number_from(self.matching_days(year, month), passed_day + 1) {
                return Some(Date::new(year, month, day).ok()?.to_datetime(first_time));
            }
            passed_day = 0;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        None
    }

    /// Returns the last matching time before `local`; `None` if no time since the year 1901 matches.
    pub(super) fn last_match_before(&self, local: DateTime) -> Option<DateTime> {
        #[cfg(test)]
        searches::count();
        let whole_local = whole_second(local);
        let search_end = if whole_local < local { whole_local } else { whole_local.checked_sub(1.second()).ok()? };
        let (date, time) = (search_end.date(), search_end.time());
        if self.matching_days(date.year(), date.month()) & bit(date.day()) != 0
            && let Some(time) = self.last_time_until(time)
        {
            return Some(date.to_datetime(time)).filter(|found| found.year() > LAST_YEAR_BEFORE_SEARCH);
        }
        let last_time = self.last_time_until(Time::MAX)?;
        let (mut year, mut month, mut passed_day) = (date.year(), date.month(), date.day());
        while year > LAST_YEAR_BEFORE_SEARCH {
            if let Some(day) = highest_number_until(self.matching_days(year, month), passed_day - 1) {
                return Some(Date::new(year, month, day).ok()?.to_datetime(last_time));
            }
            passed_day = 32;
            (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
        }
        None
    }

    /// Returns the matching days of a month.
    fn matching_days(&self, year: i16, month: i8) -> u64 {
        if self.months & bit(month) == 0 {
            return 0;
        }
        Date::new(year, month, 1).map_or(0, |first| {
            let (length, weekday) = kind_of_month(first);
            self.days[length][weekday]
        })
    }

    fn first_time_from(&self, time: Time) -> Option<Time> {
        let (hour, minute) = (time.hour(), time.minute());
        let first = |set| lowest_number_from(set, 0);
        if self.hours & bit(hour) != 0 {
            if self.minutes & bit(minute) != 0
                && let Some(second) = lowest_number_from(self.seconds, time.second())
            {
                return Time::new(hour, minute, second, 0).ok();
            }
            if let Some(minute) = lowest_number_from(self.minutes, minute + 1) {
                return Time::new(hour, minute, first(self.seconds)?, 0).ok();
            }
        }
        Time::new(lowest_number_from(self.hours, hour + 1)?, first(self.minutes)?, first(self.seconds)?, 0).ok()
    }

    fn last_time_until(&self, time: Time) -> Option<Time> {
        let (hour, minute) = (time.hour(), time.minute());
        let last = |set| highest_number_until(set, 63);
        if self.hours & bit(hour) != 0 {
            if self.minutes & bit(minute) != 0
                && let Some(second) = highest_number_until(self.seconds, time.second())
            {
                return Time::new(hour, minute, second, 0).ok();
            }
            if let Some(minute) = highest_number_until(self.minutes, minute - 1) {
                return Time::new(hour, minute, last(self.seconds)?, 0).ok();
            }
        }
        Time::new(highest_number_until(self.hours, hour - 1)?, last(self.minutes)?, last(self.seconds)?, 0).ok()
    }
}

/// Returns the length of a month minus 28, and the weekday of its first day; Sunday is 0.
fn kind_of_month(first: Date) -> (usize, usize) {
    let length = usize::from(first.days_in_month().unsigned_abs()) - 28;
    (length, usize::from(first.weekday().to_sunday_zero_offset().unsigned_abs()))
}

fn set_of_numbers(component: &CronComponent) -> u64 {
    component.values().into_iter().fold(0, |set, number| set | 1 << number)
}

fn bit(number: i8) -> u64 {
    1 << number
}

/// Returns the lowest number of the set that is not below `from`, which is from 0 to 63.
fn lowest_number_from(set: u64, from: i8) -> Option<i8> {
    let remaining_bits = set >> from << from;
    (remaining_bits != 0).then(|| i8::try_from(remaining_bits.trailing_zeros()).ok())?
}

/// Returns the highest number of the set that is not above `until`, which is from -1 to 63.
fn highest_number_until(set: u64, until: i8) -> Option<i8> {
    let count_above = u32::from(63_i8.saturating_sub(until).unsigned_abs());
    let remaining_bits = set.checked_shl(count_above)?;
    (remaining_bits != 0).then(|| until.checked_sub(i8::try_from(remaining_bits.leading_zeros()).ok()?))?
}

fn whole_second(local: DateTime) -> DateTime {
    let time = local.time();
    local.date().at(time.hour(), time.minute(), time.second(), 0)
}

/// Counts the searches of the current thread, for tests of code that must not search.
#[cfg(test)]
pub(crate) mod searches {
    use std::cell::Cell;

    thread_local! {
        static SEARCH_COUNT: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        SEARCH_COUNT.set(SEARCH_COUNT.get() + 1);
    }

    pub(crate) fn search_count() -> usize {
        SEARCH_COUNT.get()
    }
}

#[cfg(test)]
mod tests {
    use croner::{
        Cron,
        parser::{CronParser, Seconds, Year},
    };
    use jiff::civil::datetime;
    use proptest::prelude::*;

    use super::*;

    fn parse_cron(text: &str) -> Cron {
        CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build().parse(text).unwrap()
    }

    fn number_or_star(max: u8) -> impl Strategy<Value = String> {
        let list_pattern = (0..=max, 0..=max).prop_map(|(one, other)| format!("{one},{other}"));
        prop_oneof![Just("*".to_owned()), Just("*/7".to_owned()), (0..=max).prop_map(|n| n.to_string()), list_pattern]
    }

    proptest! {
        #[test]
        fn matching_times_of_cron_patterns_are_those_of_croner(
            second in number_or_star(59),
            minute in number_or_star(59),
            hour in number_or_star(23),
            day in "[*]|L|LW|([1-9]|[12][0-9]|3[01])W?",
            month in "[*]|[1-9]|1[0-2]",
            weekday in "[*]|[+]?[0-7](#[1-5]|L)?|[+]?[0-3]-[4-7]",
            secs in 0..200 * 365 * 86_400_i64,
            nanos in prop_oneof![Just(0), 1..1_000_000_000_i64],
        ) {
            let cron = parse_cron(&format!("{second} {minute} {hour} {day} {month} {weekday}"));
            let times = MatchingTimes::of(&cron.pattern).unwrap();
            let local = datetime(1_990, 1, 1, 0, 0, 0, 0).checked_add(secs.seconds().nanoseconds(nanos)).unwrap();
            let is_within_years = |found: &DateTime| (LAST_YEAR_BEFORE_SEARCH + 1..END_YEAR).contains(&found.year());
            let next_match = cron.find_next_occurrence(&whole_second(local), false).ok().filter(is_within_years);
            prop_assert_eq!(times.first_match_after(local), next_match);
            let whole_local = whole_second(local);
            let last_match = cron.find_previous_occurrence(&whole_local, whole_local < local).ok().filter(is_within_years);
            prop_assert_eq!(times.last_match_before(local), last_match);
        }
    }

    #[test]
    fn lowest_and_highest_numbers_of_a_set_are_found() {
        let set = bit(0) | bit(5) | bit(59);
        assert_eq!(
            [0, 1, 5, 6, 60].map(|from| lowest_number_from(set, from)),
            [Some(0), Some(5), Some(5), Some(59), None]
        );
        let highest = [-1, 0, 4, 5, 63].map(|until| highest_number_until(set, until));
        assert_eq!(highest, [None, Some(0), Some(0), Some(5), Some(59)]);
    }
}

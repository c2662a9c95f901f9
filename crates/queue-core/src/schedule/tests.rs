//! Tests of cron patterns, of time zones, and of the plans for missed ticks. The ticks of cron patterns are compared with the ticks
//! that an independent search finds, which checks each quarter of an hour.

use std::collections::BTreeSet;

use jiff::{Timestamp as Instant, ToSpan, civil::DateTime, tz::TimeZone};
use serde_json::json;

use super::{
    NewSchedule,
    cron::CronPattern,
    matching_times::searches,
    rule::{DueTicks, Missed, Rule},
    zone::Zone,
};
use crate::{
    parse_error::ParseError,
    time::{Millis, Timestamp},
};

fn parse_pattern(text: &str) -> Result<CronPattern, ParseError> {
    text.to_owned().try_into()
}

fn zone_named(name: &str) -> Zone {
    name.to_owned().try_into().unwrap()
}

/// Time zones with clock changes of an hour, of half an hour, at midnight, in Ramadan, and in either half of the year; zones with
/// offsets of quarters of an hour; zones without clock changes; and a zone that skipped a day.
const ZONES: [&str; 22] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "America/Asuncion",
    "America/Nuuk",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Antarctica/Troll",
];

/// A pattern whose minutes are quarters of an hour, with an independent definition of its local times: its minutes, its hours, its
/// days, and whether the pattern names one hour.
struct Sample {
    text: &'static str,
    minutes: &'static [i8],
    hours: fn(i8) -> bool,
    days: fn(DateTime) -> bool,
    one_hour: bool,
}

fn any_hour(_: i8) -> bool {
    true
}

fn any_day(_: DateTime) -> bool {
    true
}

/// Returns the weekday of a day as a number; Sunday is 0.
fn weekday(day: DateTime) -> i8 {
    day.weekday().to_sunday_zero_offset()
}

fn is_last_day(day: DateTime) -> bool {
    day.day() == day.days_in_month()
}

const SAMPLES: [Sample; 16] = [
    Sample { text: "30 2 * * *", minutes: &[30], hours: |h| h == 2, days: any_day, one_hour: true },
    Sample { text: "*/15 2 * * *", minutes: &[0, 15, 30, 45], hours: |h| h == 2, days: any_day, one_hour: true },
    Sample { text: "@daily", minutes: &[0], hours: |h| h == 0, days: any_day, one_hour: true },
    Sample {
        text: "0 0,15 1 * * sun",
        minutes: &[0, 15],
        hours: |h| h == 1,
        days: |d| weekday(d) == 0,
        one_hour: true,
    },
    Sample { text: "45 23 L * *", minutes: &[45], hours: |h| h == 23, days: is_last_day, one_hour: true },
    Sample {
        text: "0 3 29 2 *",
        minutes: &[0],
        hours: |h| h == 3,
        days: |d| (d.month(), d.day()) == (2, 29),
        one_hour: true,
    },
    Sample {
        text: "15 2 * * sun#2",
        minutes: &[15],
        hours: |h| h == 2,
        days: |d| weekday(d) == 0 && (8..=14).contains(&d.day()),
        one_hour: true,
    },
    Sample {
        text: "0 12 1 * mon",
        minutes: &[0],
        hours: |h| h == 12,
        days: |d| d.day() == 1 || weekday(d) == 1,
        one_hour: true,
    },
    Sample { text: "*/15 * * * *", minutes: &[0, 15, 30, 45], hours: any_hour, days: any_day, one_hour: false },
    Sample { text: "0 */2 * * *", minutes: &[0], hours: |h| h % 2 == 0, days: any_day, one_hour: false },
    Sample { text: "30 1,2,3 * * *", minutes: &[30], hours: |h| (1..=3).contains(&h), days: any_day, one_hour: false },
    Sample {
        text: "30 0-2 * mar-may,sep-nov *",
        minutes: &[30],
        hours: |h| h <= 2,
        days: |d| [3, 4, 5, 9, 10, 11].contains(&d.month()),
        one_hour: false,
    },
    Sample {
        text: "15,45 * * * 0L",
        minutes: &[15, 45],
        hours: any_hour,
        days: |d| weekday(d) == 0 && d.day() + 7 > d.days_in_month(),
        one_hour: false,
    },
    Sample {
        text: "0 1-23/2 */5 * *",
        minutes: &[0],
        hours: |h| h % 2 == 1,
        days: |d| d.day() % 5 == 1,
        one_hour: false,
    },
    Sample {
        text: "0,30 1-2 29 2 *",
        minutes: &[0, 30],
        hours: |h| h == 1 || h == 2,
        days: |d| (d.month(), d.day()) == (2, 29),
        one_hour: false,
    },
    Sample {
        text: "0 0-4 26-28 3 +sun",
        minutes: &[0],
        hours: |h| h <= 4,
        days: |d| d.month() == 3 && (26..=28).contains(&d.day()) && weekday(d) == 0,
        one_hour: false,
    },
];

/// Returns the ticks of a sample from the first to the last instant, found by a check of each quarter of an hour.
fn ticks_by_search(sample: &Sample, zone: &TimeZone, first: Instant, last: Instant) -> Vec<Instant> {
    let matches = |local: DateTime| {
        sample.minutes.contains(&local.minute()) && (sample.hours)(local.hour()) && (sample.days)(local)
    };
    let quarter_hour = 15.minutes();
    let mut ticks = BTreeSet::new();
    let mut shown_times = BTreeSet::new();
    let mut now = first;
    let mut latest_time = zone.to_datetime(first) - quarter_hour;
    while now <= last {
        let local = zone.to_datetime(now);
        if sample.one_hour {
            // If the clocks skipped the local times between `latest_time` and `local`, the ticks at these local times are at `now`.
            let mut next_time = latest_time + quarter_hour;
            while next_time <= local {
                if matches(next_time) && shown_times.insert(next_time) {
                    ticks.insert(now);
                }
                next_time += quarter_hour;
            }
            latest_time = latest_time.max(local);
        } else {
            ticks.extend(matches(local).then_some(now));
        }
        now += quarter_hour;
    }
    ticks.into_iter().collect()
}

#[test]
fn ticks_of_patterns_are_those_of_an_independent_search_in_both_directions() {
    let searched_years =
        [("2011-11-01T00:00:00Z", "2012-01-15T00:00:00Z"), ("2027-02-01T00:00:00Z", "2028-04-15T00:00:00Z")];
    for name in ZONES {
        let timezone = TimeZone::get(name).unwrap();
        for (first, last) in searched_years {
            let (first, last): (Instant, Instant) = (first.parse().unwrap(), last.parse().unwrap());
            for sample in &SAMPLES {
                let expected_ticks = ticks_by_search(sample, &timezone, first, last);
                let (cron, zone) = (parse_pattern(sample.text).unwrap(), zone_named(name));
                let ticks_ahead =
                    std::iter::successors(zone.next(&cron, first - 1.second()), |tick| zone.next(&cron, *tick));
                let ticks_ahead: Vec<Instant> = ticks_ahead.take_while(|tick| *tick <= last).collect();
                assert_eq!(ticks_ahead, expected_ticks, "{} in {name}", sample.text);
                let ticks_back =
                    std::iter::successors(zone.previous(&cron, last + 1.second()), |tick| zone.previous(&cron, *tick));
                let mut ticks_back: Vec<Instant> = ticks_back.take_while(|tick| *tick >= first).collect();
                ticks_back.reverse();
                assert_eq!(ticks_back, expected_ticks, "{} in {name}, backwards", sample.text);
            }
        }
    }
}

#[test]
fn pattern_of_one_hour_ticks_once_a_day_and_hourly_pattern_ticks_each_hour_when_clocks_change() {
    let ticks = |text: &str, name: &str, after: &str, count| {
        let (cron, zone) = (parse_pattern(text).unwrap(), zone_named(name));
        let next_ticks =
            std::iter::successors(zone.next(&cron, after.parse().unwrap()), |tick| zone.next(&cron, *tick));
        next_ticks.take(count).map(|tick| tick.to_string()).collect::<Vec<_>>()
    };
    // In Berlin, the time 02:30 does not occur on 28 March 2027, and occurs twice on 31 October 2027.
    let spring = ticks("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", 2);
    assert_eq!(spring, ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
    let autumn = ticks("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 2);
    assert_eq!(autumn, ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]);
    let ticks_in_repeated_hour = ticks("59,0 59,0 2 * * *", "Europe/Berlin", "2027-10-31T00:59:58Z", 2);
    assert_eq!(
        ticks_in_repeated_hour,
        ["2027-10-31T00:59:59Z", "2027-11-01T01:00:00Z"],
        "not in the second pass of the hour"
    );
    let hourly_ticks = ticks("@hourly", "Europe/Berlin", "2027-10-30T23:30:00Z", 3);
    assert_eq!(hourly_ticks, ["2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"]);
    // The zone of Apia skipped the day 30 December 2011.
    let skipped_day = ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2);
    assert_eq!(skipped_day, ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]);
}

#[test]
fn error_of_an_invalid_pattern_names_the_field_and_its_valid_values() {
    for (text, expected) in [
        ("* * * *", "this has 4"),
        ("* * * * * * *", "this has 7"),
        ("", "this has 0"),
        ("61 * * * *", "its minute is \"61\", and must be *, 0 to 59"),
        ("-1 * * * *", "its minute"),
        ("60 0 0 * * *", "its second is \"60\""),
        ("0 24 * * *", "its hour is \"24\""),
        ("0 0 0 * *", "its day of the month is \"0\""),
        ("0 0 * 13 *", "its month is \"13\""),
        ("0 0 * foo *", "its month is \"foo\""),
        ("0 0 mon * *", "its day of the month is \"mon\""),
        ("jan 0 * * *", "its minute is \"jan\""),
        ("0 0 * * 8", "its day of the week is \"8\""),
        ("0 0 * * mon#6", "its day of the week"),
        ("0 0 * * L", "its day of the week is \"L\", and must be *, 0 to 7"),
        ("0 0 1,15 * L", "5L or friL for the last one"),
        ("0 0 * * mon,l", "its day of the week is \"mon,l\""),
        ("0 0 1 * +L", "its day of the week is \"+L\""),
        ("0 0 * * L,mon", "its day of the week"),
        ("0 0 * * #L", "its day of the week"),
        ("0 0 * * 1-5L", "its day of the week"),
        ("0 0 * * L-5", "its day of the week"),
        ("0 0 * * *L", "its day of the week"),
        ("0 0 * * L#2", "its day of the week"),
        ("0 0 * * 8L", "its day of the week"),
        ("0 0 * * febL", "its day of the week"),
        ("0/10 * * * *", "its minute is \"0/10\""),
        ("5-1 * * * *", "its minute"),
        ("*/0 * * * *", "its minute"),
        ("1,,2 * * * *", "its minute"),
        ("0 0 30 2 *", "never matches"),
        ("0 0 31 2,4,6,9,11 *", "never matches"),
        ("@reboot", "one of @yearly"),
        ("ä * * * *", "ASCII"),
        (&format!("{} * * * *", "1,".repeat(120)), "at most 200"),
    ] {
        let error = parse_pattern(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    for text in ["0 0 29 2 *", "  0 0 * * 7 ", "@DAILY", "0 0 ? * MON-FRI", "0 0 15W * *", "0 0 LW * *", "0 0 1 * +mon"]
    {
        assert!(parse_pattern(text).is_ok(), "{text}");
    }
    for name in ["", "Mars/Olympus", "+02:00", "CESTX", "../UTC"] {
        assert!(Zone::try_from(name.to_owned()).unwrap_err().to_string().contains("IANA"), "{name}");
    }
    assert_eq!(zone_named("europe/berlin").as_str(), "Europe/Berlin");
    assert_eq!(zone_named("utc").as_str(), "UTC");
}

#[test]
fn last_day_of_the_week_in_a_month_is_written_with_a_name_or_a_number() {
    let ticks = |text: &str| {
        let (cron, zone) = (parse_pattern(text).unwrap(), Zone::utc());
        let start: Instant = "2027-01-01T00:00:00Z".parse().unwrap();
        let next = std::iter::successors(zone.next(&cron, start), |tick| zone.next(&cron, *tick));
        next.take(3).map(|tick| tick.to_string()).collect::<Vec<_>>()
    };
    let last_fridays = ["2027-01-29T00:00:00Z", "2027-02-26T00:00:00Z", "2027-03-26T00:00:00Z"];
    for text in ["0 0 * * 5L", "0 0 * * friL", "0 0 * * FRIl", "0 0 * * fri#L", "0 0 25-31 * +friL"] {
        assert_eq!(ticks(text), last_fridays, "{text}");
    }
    for text in ["0 0 * * sunL", "0 0 * * 0L", "0 0 * * 7L"] {
        assert_eq!(ticks(text), ["2027-01-31T00:00:00Z", "2027-02-28T00:00:00Z", "2027-03-28T00:00:00Z"], "{text}");
    }
    assert_eq!(ticks("0 0 * * fri#1,friL"), ["2027-01-29T00:00:00Z", "2027-02-05T00:00:00Z", "2027-02-26T00:00:00Z"]);
}

/// The ticks of a rare pattern are years apart, so a search that passes each clock change or each day would take milliseconds.
#[test]
fn ticks_of_a_rare_pattern_are_found_with_few_searches() {
    for (text, name) in [
        ("0 1-2 29 2 +0#5", "Africa/Cairo"),
        ("0 0-23/1 27 11 +5", "Africa/Cairo"),
        ("0 */2 29 2 +6#5", "Europe/Berlin"),
    ] {
        let (cron, zone) = (parse_pattern(text).unwrap(), zone_named(name));
        let searches_before = searches::search_count();
        let first_tick = zone.next(&cron, "2027-01-01T00:00:00Z".parse().unwrap()).unwrap();
        assert!(first_tick.to_string().as_str() > "2031", "{text}: {first_tick}");
        let previous_tick = zone.previous(&cron, first_tick).unwrap();
        assert!(previous_tick.to_string().as_str() < "2027", "{text}: {previous_tick}");
        assert_eq!(zone.next(&cron, previous_tick), Some(first_tick));
        let searches = searches::search_count() - searches_before;
        assert!(searches <= 12, "{text}: {searches} searches");
    }
}

fn rule_from_json(json: serde_json::Value) -> Rule {
    let mut json = json;
    json["message"] = json!({"data": 1});
    serde_json::from_value::<NewSchedule>(json).unwrap().into_parts().0
}

fn instant_at(secs: u64) -> Timestamp {
    Timestamp::from_millis(secs * 1_000)
}

fn seconds_of(ticks: &[Timestamp]) -> Vec<u64> {
    ticks.iter().map(|tick| tick.as_millis() / 1_000).collect()
}

#[test]
fn ticks_of_an_interval_are_multiples_since_1970_plus_the_offset_between_start_and_end() {
    let rule = rule_from_json(
        json!({"every": "10s", "offset": "3s", "start_at": "1970-01-01T00:01:43Z", "end_at": "1970-01-01T00:02:13Z"}),
    );
    assert_eq!(seconds_of(&rule.ticks_after(instant_at(0), 9)), [103, 113, 123, 133]);
    assert_eq!(seconds_of(&rule.ticks_after(instant_at(113), 9)), [123, 133]);
    assert_eq!(rule.next_after(instant_at(133)), None);
    assert_eq!(
        (rule.last_before(instant_at(500)), rule.last_before(instant_at(133))),
        (Some(instant_at(133)), Some(instant_at(123)))
    );
    assert_eq!(rule.last_before(instant_at(103)), None);
}

#[test]
fn missed_ticks_are_dropped_or_one_or_all_of_them_are_posted_as_the_setting_says() {
    let plan_of = |missed: &str, overlap: &str, stored, now: u64| {
        rule_from_json(json!({"every": "20s", "missed": missed, "overlap": overlap}))
            .plan_due_ticks(instant_at(stored), instant_at(now))
    };
    assert_eq!(plan_of("one", "allow", 100, 99), None);
    for missed in ["skip", "one", "all"] {
        let plan = plan_of(missed, "allow", 100, 109).unwrap();
        let expected_plan = DueTicks {
            newest: instant_at(100),
            valid_until: Some(instant_at(110)),
            posts: vec![instant_at(100)],
            next: Some(instant_at(120)),
        };
        assert_eq!(plan, expected_plan, "the newest tick is current while it is less than 10 s old");
    }
    for (missed, overlap, now, posts) in [
        ("skip", "allow", 110, vec![]),
        ("one", "allow", 110, vec![100]),
        ("all", "allow", 110, vec![100]),
        ("skip", "allow", 165, vec![160]),
        ("one", "allow", 165, vec![140, 160]),
        ("all", "allow", 165, vec![100, 120, 140, 160]),
        ("one", "allow", 175, vec![160]),
        ("all", "allow", 175, vec![100, 120, 140, 160]),
        ("one", "skip", 165, vec![160]),
        ("all", "skip", 165, vec![160]),
    ] {
        let plan = plan_of(missed, overlap, 100, now).unwrap();
        assert_eq!(seconds_of(&plan.posts), posts, "{missed} {overlap} {now}");
        assert_eq!(plan.next, Some(instant_at(if now < 120 { 120 } else { 180 })));
        assert_eq!(plan.valid_until.is_some(), now % 20 < 10);
    }
}

#[test]
fn at_most_the_last_thousand_missed_ticks_are_posted_and_in_parts_if_they_are_large() {
    let rule = rule_from_json(json!({"every": "1s", "missed": "all"}));
    let plan = rule.plan_due_ticks(instant_at(0), instant_at(100_000)).unwrap();
    assert_eq!(seconds_of(&plan.posts), (99_001..=100_000).collect::<Vec<_>>());
    let partial_plan = plan.with_at_most_posts(3);
    assert_eq!(
        (seconds_of(&partial_plan.posts), partial_plan.next, partial_plan.newest),
        (vec![99_001, 99_002, 99_003], Some(instant_at(99_004)), instant_at(99_003))
    );
    assert_eq!(rule.missed, Missed::All);
    let later_plan = rule.plan_due_ticks(instant_at(99_004), instant_at(100_000) + Millis::new(1)).unwrap();
    assert_eq!(later_plan.posts.len(), 997);
}

#[test]
fn schedule_fields_that_contradict_each_other_are_reported() {
    let contradicting_field = |json: serde_json::Value| {
        let schedule: NewSchedule = serde_json::from_value(json).unwrap();
        schedule.contradiction().map(|(field, _)| field)
    };
    let message = json!({"data": 1});
    for (json, expected) in [
        (json!({"every": "1s", "message": message}), None),
        (json!({"cron": "@daily", "timezone": "Asia/Kathmandu", "message": message}), None),
        (json!({"message": message}), Some("cron")),
        (json!({"cron": "@daily", "every": "1s", "message": message}), Some("every")),
        (json!({"every": "1s", "timezone": "UTC", "message": message}), Some("timezone")),
        (json!({"cron": "@daily", "offset": "1s", "message": message}), Some("offset")),
        (json!({"every": "1s", "offset": "1s", "message": message}), Some("offset")),
        (
            json!({"every": "1s", "message": message, "start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}),
            Some("end_at"),
        ),
        (json!({"every": "1s", "message": {"data": 1, "id": "a"}}), Some("message/id")),
        (json!({"every": "1s", "message": {"data": 1, "delay": 1}}), Some("message/delay")),
        (
            json!({"every": "1s", "message": {"data": 1, "deliver_at": "2030-01-02T00:00:00Z"}}),
            Some("message/deliver_at"),
        ),
    ] {
        assert_eq!(contradicting_field(json.clone()), expected, "{json}");
    }
    let short_interval = json!({"every": 999, "message": message});
    let error = serde_json::from_value::<NewSchedule>(short_interval).unwrap_err().to_string();
    assert!(error.contains("must be 1s to 3650d"), "{error}");
}

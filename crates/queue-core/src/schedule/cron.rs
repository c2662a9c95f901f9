//! Cron patterns: their fields, and the local times that match them. The crate `croner` parses a pattern. This module adds error texts
//! that name the field with the mistake. The module knows no time zone.

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Span, civil::DateTime};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{parse_error::ParseError, schedule::matching_times::MatchingTimes};

/// The maximum length of a pattern, in bytes.
const MAX_BYTES: usize = 200;

/// The nicknames, each of which stands for a whole pattern, and their patterns.
const CRON_NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The fields of a pattern with seconds: the name, the range, and the words that may stand for numbers.
const CRON_FIELDS: [(&str, &str, &[&str]); 6] = [
    ("second", "0 to 59", &[]),
    ("minute", "0 to 59", &[]),
    ("hour", "0 to 23", &[]),
    ("day of the month", "1 to 31, L for the last day, 15W for the weekday nearest to the 15th", &["L", "W", "LW"]),
    (
        "month",
        "1 to 12, or jan to dec",
        &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    ),
    (
        "day of the week",
        "0 to 7 (0 and 7 are Sunday), or sun to sat, 5#2 for the second Friday, 5L or friL for the last one",
        &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
    ),
];
/// The index of the field of hours in [`CRON_FIELDS`].
const HOUR_FIELD: usize = 2;
/// The index of the field of days of the week in [`CRON_FIELDS`].
const DAY_OF_WEEK_FIELD: usize = 5;

/// A cron pattern: five fields, or six with seconds first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronPattern {
    text: String,
    matching_times: Box<MatchingTimes>,
    hours: Hours,
}

/// Whether the field of hours names one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hours {
    /// The field names one hour, so the pattern names times of the day.
    One,
    /// The field names several hours by `*`, a range, a list or a step.
    Several,
}

impl CronPattern {
    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn hours(&self) -> Hours {
        self.hours
    }

    /// Returns the first local time after `local` that matches the pattern; `None` if no time before the year 2200 matches.
    pub(crate) fn first_match_after(&self, local: DateTime) -> Option<DateTime> {
        self.matching_times.first_match_after(local)
    }

    /// Returns the last local time before `local` that matches the pattern; `None` if no time since the year 1901 matches.
    pub(crate) fn last_match_before(&self, local: DateTime) -> Option<DateTime> {
        self.matching_times.last_match_before(local)
    }
}

impl PartialEq for CronPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<CronPattern> for String {
    fn from(pattern: CronPattern) -> Self {
        pattern.text
    }
}

impl TryFrom<String> for CronPattern {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES || !text.is_ascii() {
            return Err(ParseError(format!("must be at most {MAX_BYTES} ASCII characters").into()));
        }
        let fields = fields_of(&text)?;
        let field_error = |index: usize| {
            let (name, allowed, _) = CRON_FIELDS[index];
            let field_start: String = fields[index].chars().take(40).collect();
            let other_forms = "a range 1-5, a list 1,2 or a step */5";
            ParseError(format!("its {name} is \"{field_start}\", and must be *, {allowed}, {other_forms}").into())
        };
        let mut fields_for_croner: Vec<String> = Vec::with_capacity(CRON_FIELDS.len());
        for (index, field) in fields.iter().enumerate() {
            let field = if index == DAY_OF_WEEK_FIELD { last_days_of_week(field) } else { Some((*field).to_owned()) };
            let field = field.filter(|field| has_known_words(field, CRON_FIELDS[index].2));
            fields_for_croner.push(field.ok_or_else(|| field_error(index))?);
        }
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let parsed_pattern = parser.parse(&fields_for_croner.join(" ")).map_err(|_| {
            let is_wrong = |index: &usize| {
                let mut lone_fields = ["0", "0", "0", "*", "*", "*"];
                lone_fields[*index] = &fields_for_croner[*index];
                parser.parse(&lone_fields.join(" ")).is_err()
            };
            let wrong_field = (0..CRON_FIELDS.len()).find(is_wrong);
            wrong_field.map_or_else(|| ParseError("must be a cron pattern".into()), field_error)
        })?;
        let matching_times =
            MatchingTimes::of(&parsed_pattern.pattern).map_err(|_| ParseError("must be a cron pattern".into()))?;
        let hours =
            if fields[HOUR_FIELD].bytes().all(|byte| byte.is_ascii_digit()) { Hours::One } else { Hours::Several };
        let pattern = Self { text, matching_times: Box::new(matching_times), hours };
        if pattern.first_match_after(FIRST_LOCAL_TIME).is_none() {
            return Err("never matches: there is no such day".into());
        }
        Ok(pattern)
    }
}

/// A local time before all ticks. A pattern that matches no time between `FIRST_LOCAL_TIME` and the year 2200 is refused.
const FIRST_LOCAL_TIME: DateTime = jiff::civil::datetime(2024, 1, 1, 0, 0, 0, 0);

/// Returns the six fields of a pattern; an absent field of seconds is 0.
fn fields_of(pattern_text: &str) -> Result<Vec<&str>, ParseError> {
    let pattern_text = pattern_text.trim();
    let pattern_text = match CRON_NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(pattern_text)) {
        Some((_, pattern)) => pattern,
        None if pattern_text.starts_with('@') => {
            let names: Vec<&str> = CRON_NICKNAMES.iter().map(|(name, _)| *name).collect();
            return Err(ParseError(format!("must be a pattern, or one of {}", names.join(", ")).into()));
        }
        None => pattern_text,
    };
    let mut fields: Vec<&str> = pattern_text.split_ascii_whitespace().collect();
    match fields.len() {
        5 => fields.insert(0, "0"),
        6 => {}
        other => {
            return Err(ParseError(
                format!(
                    "must have five fields (minute, hour, day of the month, month, day of the week), or six with the second \
                     first; this has {other}"
                )
                .into(),
            ));
        }
    }
    Ok(fields)
}

/// Whether no item of a field's list is empty, and all words of the field are known. croner replaces the names of months and days in
/// every field, so it does not check the words.
fn has_known_words(field: &str, known: &[&str]) -> bool {
    let letters = field.to_ascii_uppercase();
    let mut words = letters.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    words.all(|word| known.contains(&word)) && !field.split(',').any(str::is_empty)
}

/// Writes the last days of the week in a form that croner reads for names too: `friL` becomes `fri#L`. Returns `None` if an `L` follows
/// no day, because croner would ignore that `L`.
fn last_days_of_week(field: &str) -> Option<String> {
    let (both_days, list) = field.strip_prefix('+').map_or(("", field), |list| ("+", list));
    let items = list.split(',').map(|item| match item.strip_suffix(['L', 'l']) {
        Some("" | "#") => None,
        Some(day) if day.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Some(format!("{day}#L")),
        _ => Some(item.to_owned()),
    });
    Some(format!("{both_days}{}", items.collect::<Option<Vec<_>>>()?.join(",")))
}

impl PartialSchema for CronPattern {
    fn schema() -> RefOr<Schema> {
        let text_schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_BYTES));
        text_schema.examples(["30 9 * * mon-fri", "@daily"]).into()
    }
}

impl ToSchema for CronPattern {}

/// Returns a local time plus a number of seconds, which may be negative.
pub(crate) fn plus_seconds(local: DateTime, seconds: i64) -> DateTime {
    local.saturating_add(Span::new().seconds(seconds))
}

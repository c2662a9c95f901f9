//! The schema of a duration with a range: whole milliseconds, or a text with units that is in the range.

use std::fmt::Write;

use utoipa::openapi::schema::{AnyOf, AnyOfBuilder, ObjectBuilder, Schema, Type};

use crate::time::{Millis, UNITS};

impl Millis {
    /// The schema of a duration with a range.
    pub fn schema_within(min: Self, max: Self) -> Schema {
        Schema::AnyOf(schema(min.get(), max.get()))
    }
}

/// The schema of a duration between these numbers of milliseconds, as a number or as a text.
pub(crate) fn schema(min: u64, max: u64) -> AnyOf {
    let length_bound = |millis: u64| usize::try_from(millis).ok();
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(length_bound(min)).maximum(length_bound(max));
    let text_schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(duration_text_pattern(min, max)));
    let has_two_seconds = (min..=max).contains(&2_000);
    let examples: Vec<serde_json::Value> =
        if has_two_seconds { vec![2_000.into(), "2s".into()] } else { vec![max.into()] };
    AnyOfBuilder::new().item(number).item(text_schema).examples(examples).build()
}

/// Returns a regular expression for the texts of durations from `min` to `max` milliseconds. Such a text is a number with or
/// without a unit, or several numbers with units, the longest unit first.
fn duration_text_pattern(min: u64, max: u64) -> String {
    let mut unit_patterns = vec![format!("0*(?:{})", number_pattern(min, max))];
    for (index, (unit, millis)) in UNITS.iter().enumerate() {
        let (min_count, max_count) = (min.div_ceil(*millis), max / millis);
        if min_count <= max_count {
            unit_patterns.push(format!("0*(?:{}){unit}", number_pattern(min_count, max_count)));
        }
        // Numbers with shorter units may follow a number with the unit `unit`. Together they add less than one `unit`, so the
        // duration stays between `min` and `max`.
        let rest = shorter_units(&UNITS[index + 1..]);
        if !rest.is_empty() && min_count.max(1) < max_count {
            unit_patterns.push(format!("(?:{}){unit}{rest}", number_pattern(min_count.max(1), max_count - 1)));
        }
    }
    format!("^(?:{})$", unit_patterns.join("|"))
}

/// The pattern of the shorter units that may follow a number and its unit.
fn shorter_units(units: &[(&str, u64)]) -> String {
    units.iter().fold(String::new(), |mut rest, (unit, _)| {
        let digits = match *unit {
            "d" => "[0-6]",
            "h" => "(?:1?[0-9]|2[0-3])",
            "ms" => "[0-9]{1,3}",
            _ => "[1-5]?[0-9]",
        };
        // Writing to a `String` can't fail.
        let _ = write!(rest, "(?: ?{digits}{unit})?");
        rest
    })
}

/// Returns a regular expression for the whole numbers from `min` to `max`, without leading zeros.
fn number_pattern(min: u64, max: u64) -> String {
    // The loop splits the numbers from `min` to `max` into blocks: the first digits of a block are fixed, its last `free` digits
    // are arbitrary.
    let mut number_blocks: Vec<(u64, u32)> = Vec::new();
    let mut block_start = min;
    while block_start <= max {
        let fits_range = |free: &u32| {
            10_u64.checked_pow(*free).is_some_and(|size| {
                block_start > 0 && block_start.is_multiple_of(size) && block_start + (size - 1) <= max
            })
        };
        let free_digits = (1..20).take_while(fits_range).last().unwrap_or(0);
        let block_size = 10_u64.pow(free_digits);
        number_blocks.push((block_start / block_size, free_digits));
        block_start += block_size;
    }
    let differ_in_one_digit = |one: &(u64, u32), other: &(u64, u32)| one.0 / 10 == other.0 / 10 && one.1 == other.1;
    let block_patterns: Vec<String> = number_blocks
        .chunk_by(differ_in_one_digit)
        .map(|group| {
            let ((first, free), (end, _)) = (group[0], group[group.len() - 1]);
            let leading_digits = if first < 10 { String::new() } else { (first / 10).to_string() };
            let digit = if first == end { (first % 10).to_string() } else { format!("[{}-{}]", first % 10, end % 10) };
            let any_digits = match free {
                0 => String::new(),
                1 => "[0-9]".into(),
                more => format!("[0-9]{{{more}}}"),
            };
            format!("{leading_digits}{digit}{any_digits}")
        })
        .collect();
    block_patterns.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_of_a_number_range_has_few_blocks() {
        assert_eq!(number_pattern(0, 9), "[0-9]");
        assert_eq!(number_pattern(1, 1_000), "[1-9]|[1-9][0-9]|[1-9][0-9]{2}|1000");
        assert_eq!(number_pattern(100, 250), "1[0-9]{2}|2[0-4][0-9]|250");
        assert_eq!(number_pattern(0, 0), "0");
    }

    #[test]
    fn duration_pattern_has_the_units_that_fit() {
        let milliseconds = "0*(?:[0-9]|[1-9][0-9]|[1-9][0-9]{2}|1000)";
        assert_eq!(
            duration_text_pattern(0, 1_000),
            format!("^(?:{milliseconds}|0*(?:0)w|0*(?:0)d|0*(?:0)h|0*(?:0)m|0*(?:[0-1])s|{milliseconds}ms)$")
        );
        assert!(
            duration_text_pattern(1, 3_000).contains("|(?:[1-2])s(?: ?[0-9]{1,3}ms)?|"),
            "{}",
            duration_text_pattern(1, 3_000)
        );
    }
}

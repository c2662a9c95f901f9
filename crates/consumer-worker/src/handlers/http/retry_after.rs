//! The pause that an answer asks for.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// A longer pause counts as this one.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// The pause that an answer asks for, in seconds or as a date. None if it asks for none that is worth the name: the
/// back-off does better then, so that a receiver in trouble is not asked again at once.
pub(super) fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    // Digits and nothing else (RFC 9110, 10.2.3): a parser of numbers would take a sign too.
    let is_number = !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit());
    let pause = if is_number {
        // It fails only for more digits than any number has.
        asked.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let instant = read_date(asked)?;
        // By the clock of the receiver, where that is known.
        let now = text(DATE).and_then(read_date).unwrap_or_else(SystemTime::now);
        instant.duration_since(now).ok()?
    };
    (!pause.is_zero()).then_some(pause.min(LONGEST))
}

/// Reads a date. A second 60 is taken for the second after it, which is never early.
fn read_date(text: &str) -> Option<SystemTime> {
    match text.split_once(":60 ") {
        Some((before, after)) => {
            let second_59 = httpdate::parse_http_date(&format!("{before}:59 {after}")).ok()?;
            second_59.checked_add(Duration::from_secs(1))
        }
        None => httpdate::parse_http_date(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date_and_has_bounds() {
        let asked = |text: &str| {
            let date = "Sun, 06 Nov 2044 08:49:37 GMT".parse().unwrap();
            pause(&[(RETRY_AFTER, text.parse().unwrap()), (DATE, date)].into_iter().collect())
        };
        for (text, secs) in [
            ("2", Some(2)),
            (" 120 ", Some(120)),
            ("0", None),
            ("999999999", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 2044 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 2044 08:49:60 GMT", Some(23)),
            ("Sun, 06 Nov 2044 08:60:00 GMT", None),
            ("Sun, 06 Nov 2044 08:49:30 GMT", None),
            ("Sun, 06 Nov 2050 08:49:30 GMT", Some(86_400)),
            ("", None),
            (" ", None),
            ("+3", None),
            ("-1", None),
            ("3, 5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(asked(text), secs.map(Duration::from_secs), "{text}");
        }
        assert_eq!(pause(&HeaderMap::new()), None);
        let by_our_clock = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause = pause(&[(RETRY_AFTER, by_our_clock.parse().unwrap())].into_iter().collect()).unwrap();
        assert!((55..=60).contains(&pause.as_secs()), "{pause:?}");
    }
}

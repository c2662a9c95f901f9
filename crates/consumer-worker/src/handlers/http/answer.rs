//! The outcome of a message from the answer to its request: from the status, the body, and the pause that the answer asks for.

use std::time::{Duration, SystemTime};

use queue_core::{Failure, Queue};
use reqwest::{
    Response, StatusCode,
    header::{DATE, HeaderMap, HeaderName, RETRY_AFTER},
};
use tokio::time::timeout;

use super::client::{self, Unread};
use crate::{config::Output, handlers::output, routing::Outcome};

/// The bytes of a refusal that are kept: enough to see the reason.
const MAX_REFUSAL_BYTES: usize = 1_024;

/// The time in which a body is read that does not decide the outcome: so that a part of it can be kept, and the connection used
/// again.
const TIME_FOR_OPTIONAL_BODY: Duration = Duration::from_millis(500);

/// The outcome of a message with this answer.
pub(super) async fn outcome(mut answer: Response, response: Output) -> Outcome {
    let status = answer.status();
    let mut bytes = Vec::new();
    if status.is_success() {
        if response == Output::Ignore {
            let _ =
                timeout(TIME_FOR_OPTIONAL_BODY, client::read(&mut answer, Queue::MAX_RESULT_BYTES, &mut bytes)).await;
            return output::into_result(b"");
        }
        return match client::read(&mut answer, Queue::MAX_RESULT_BYTES, &mut bytes).await {
            Ok(()) => output::into_result(&bytes),
            Err(Unread::TooMuch) => output::too_large("the answer", "response = \"ignore\""),
            Err(Unread::Broken(why)) => {
                Outcome::Retry(Failure::new("no_answer", format!("the answer {} broke off: {why}", words(status))))
            }
        };
    }
    // The body of a refusal may be long, and slow, and break off.
    let _ = timeout(TIME_FOR_OPTIONAL_BODY, client::read(&mut answer, MAX_REFUSAL_BYTES, &mut bytes)).await;
    let body = match bytes.trim_ascii() {
        [] => String::new(),
        text => format!(": {}", String::from_utf8_lossy(text)),
    };
    let failure = Failure::new(format!("http_{}", status.as_u16()), format!("the answer was {}{body}", words(status)));
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => match requested_pause(answer.headers()) {
            Some(pause) => Outcome::RetryAfter(failure, pause),
            None => Outcome::Retry(failure),
        },
        // They ask for another try.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Outcome::Retry(failure),
        status if status.is_client_error() => Outcome::FailForGood(failure),
        _ => Outcome::Retry(failure),
    }
}

/// The number of a status, and its name if it has one.
fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(name) => format!("{} {name}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// A longer pause counts as this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// The pause that an answer asks for, in seconds or as a date. `None` if it asks for none, or for none that is longer than
/// zero: the back-off applies then, so that a receiver with an outage gets no other request at once.
fn requested_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let requested = text(RETRY_AFTER)?;
    // Digits and nothing else (RFC 9110, 10.2.3): a parser of numbers would take a sign too.
    let is_number = !requested.is_empty() && requested.bytes().all(|byte| byte.is_ascii_digit());
    let pause = if is_number {
        // It fails only for more digits than any number has.
        requested.parse().map_or(LONGEST_PAUSE, Duration::from_secs)
    } else {
        let instant = read_date(requested)?;
        // By the clock of the receiver, if the answer has its time.
        let now = text(DATE).and_then(read_date).unwrap_or_else(SystemTime::now);
        instant.duration_since(now).ok()?
    };
    (!pause.is_zero()).then_some(pause.min(LONGEST_PAUSE))
}

/// Reads a date. A second 60 counts as the second after it, which is never early.
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
    fn requested_pause_is_seconds_or_a_date_and_has_bounds() {
        let requested = |text: &str| {
            let date = "Sun, 06 Nov 2044 08:49:37 GMT".parse().unwrap();
            requested_pause(&[(RETRY_AFTER, text.parse().unwrap()), (DATE, date)].into_iter().collect())
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
            assert_eq!(requested(text), secs.map(Duration::from_secs), "{text}");
        }
        assert_eq!(requested_pause(&HeaderMap::new()), None);
        let by_our_clock = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause = requested_pause(&[(RETRY_AFTER, by_our_clock.parse().unwrap())].into_iter().collect()).unwrap();
        assert!((55..=60).contains(&pause.as_secs()), "{pause:?}");
    }
}

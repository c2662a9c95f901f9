//! Decides the outcome of a message by the response to its request: by the status, the body, and the header `Retry-After`.

use std::time::{Duration, SystemTime};

use queue_core::{Failure, Queue};
use reqwest::{
    Response, StatusCode,
    header::{DATE, HeaderMap, HeaderName, RETRY_AFTER},
};
use tokio::time::timeout;

use super::client::{self, ReadError};
use crate::{config::Output, handlers::output, routing::Outcome};

/// The number of bytes that are kept of the body of an error response.
const MAX_ERROR_BODY_BYTES: usize = 1_024;

/// The time limit for reading a body that does not decide the outcome. A body that does not decide the outcome is still read,
/// so that its beginning can be kept and the connection can be reused.
const TIME_FOR_OPTIONAL_BODY: Duration = Duration::from_millis(500);

/// Returns the outcome of a message whose request got this response.
pub(super) async fn outcome(mut answer: Response, response: Output) -> Outcome {
    let status = answer.status();
    let mut bytes = Vec::new();
    if status.is_success() {
        if response == Output::Ignore {
            let _ =
                timeout(TIME_FOR_OPTIONAL_BODY, client::read_body(&mut answer, Queue::MAX_RESULT_BYTES, &mut bytes))
                    .await;
            return output::into_result(b"");
        }
        return match client::read_body(&mut answer, Queue::MAX_RESULT_BYTES, &mut bytes).await {
            Ok(()) => output::into_result(&bytes),
            Err(ReadError::TooLarge) => output::outcome_of_too_large_result("the answer", "response = \"ignore\""),
            Err(ReadError::Interrupted(why)) => Outcome::Retry(Failure::new(
                "no_answer",
                format!("the answer {} broke off: {why}", status_text(status)),
            )),
        };
    }
    // The body of an error response may be long or slow, or may end early.
    let _ = timeout(TIME_FOR_OPTIONAL_BODY, client::read_body(&mut answer, MAX_ERROR_BODY_BYTES, &mut bytes)).await;
    let body = match bytes.trim_ascii() {
        [] => String::new(),
        text => format!(": {}", String::from_utf8_lossy(text)),
    };
    let failure =
        Failure::new(format!("http_{}", status.as_u16()), format!("the answer was {}{body}", status_text(status)));
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => match requested_pause(answer.headers()) {
            Some(pause) => Outcome::RetryAfter(failure, pause),
            None => Outcome::Retry(failure),
        },
        // The statuses 408 and 425 ask the client to repeat the request.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Outcome::Retry(failure),
        status if status.is_client_error() => Outcome::FailForGood(failure),
        _ => Outcome::Retry(failure),
    }
}

/// Returns the number of a status, and the name of the status if it has a name.
fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(name) => format!("{} {name}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// The maximum pause before the next attempt: a longer `Retry-After` is shortened to this maximum.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Returns the pause in the header `Retry-After`, which is in seconds or a date. Returns `None` if `Retry-After` is
/// absent, invalid or zero: then the back-off applies, so that an overloaded receiver does not get the next request at
/// once.
fn requested_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let retry_after = text(RETRY_AFTER)?;
    // The seconds in `Retry-After` must be digits only (RFC 9110, 10.2.3), but `parse` would accept a sign, too.
    let is_number = !retry_after.is_empty() && retry_after.bytes().all(|byte| byte.is_ascii_digit());
    let pause = if is_number {
        // `parse` fails only if the number of seconds exceeds 64 bits.
        retry_after.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let retry_instant = parse_date(retry_after)?;
        // If the response has the header `Date`, the pause is the difference between `Retry-After` and `Date`, which
        // are both by the receiver's clock.
        let now = text(DATE).and_then(parse_date).unwrap_or_else(SystemTime::now);
        retry_instant.duration_since(now).ok()?
    };
    (!pause.is_zero()).then_some(pause.min(MAX_RETRY_AFTER))
}

/// Parses an HTTP date. The leap second :60 is parsed as the first second of the next minute, so the pause is never too
/// short.
fn parse_date(text: &str) -> Option<SystemTime> {
    match text.split_once(":60 ") {
        Some((before, after)) => {
            let date_at_second_59 = httpdate::parse_http_date(&format!("{before}:59 {after}")).ok()?;
            date_at_second_59.checked_add(Duration::from_secs(1))
        }
        None => httpdate::parse_http_date(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_an_upper_limit() {
        let parse_pause = |text: &str| {
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
            assert_eq!(parse_pause(text), secs.map(Duration::from_secs), "{text}");
        }
        assert_eq!(requested_pause(&HeaderMap::new()), None);
        let date_by_our_clock = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause =
            requested_pause(&[(RETRY_AFTER, date_by_our_clock.parse().unwrap())].into_iter().collect()).unwrap();
        assert!((55..=60).contains(&pause.as_secs()), "{pause:?}");
    }
}

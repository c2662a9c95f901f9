//! The meaning of an answer for its message.

use std::time::Duration;

use queue_core::{Failure, Queue};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::{
    client::{self, Unread},
    retry_after,
};
use crate::{Outcome, config::Output, handlers::output};

/// How much of a refusal is kept: enough to see what was wrong.
const MAX_REFUSAL_BYTES: usize = 1_024;

/// How long what is of no consequence is read: so that it can be told, and the connection used again.
const COURTESY: Duration = Duration::from_millis(500);

/// What an answer says of a message.
pub(super) async fn outcome(mut answer: Response, response: Output) -> Outcome {
    let status = answer.status();
    let mut bytes = Vec::new();
    if status.is_success() {
        if response == Output::Ignore {
            let _ = timeout(COURTESY, client::read(&mut answer, Queue::MAX_RESULT_BYTES, &mut bytes)).await;
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
    // What it says beside its status may be long, and slow, and break off.
    let _ = timeout(COURTESY, client::read(&mut answer, MAX_REFUSAL_BYTES, &mut bytes)).await;
    let said = match bytes.trim_ascii() {
        [] => String::new(),
        text => format!(": {}", String::from_utf8_lossy(text)),
    };
    let failure = Failure::new(format!("http_{}", status.as_u16()), format!("the answer was {}{said}", words(status)));
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => match retry_after::pause(answer.headers()) {
            Some(pause) => Outcome::RetryAfter(failure, pause),
            None => Outcome::Retry(failure),
        },
        // Their meaning is to try again.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Outcome::Retry(failure),
        status if status.is_client_error() => Outcome::FailForGood(failure),
        _ => Outcome::Retry(failure),
    }
}

/// A status with its name, if it has one.
fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(name) => format!("{} {name}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

//! Asks several servers the same question at once, and does not wait long for servers that hang.

use std::time::Duration;

use deadpool_redis::redis::RedisResult;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

/// The time limit for the answers of all servers.
const TIME_LIMIT: Duration = Duration::from_millis(500);
/// The time limit for the other answers after more than half of the servers have answered. A server that hangs must not delay a
/// fail-over, and a single server that does not know of a fail-over must not decide.
const LATE_ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// Asks each server one question. Returns for each server its answer, or the reason why there is no answer.
pub(crate) async fn ask_all<T>(
    questions: impl IntoIterator<Item = impl Future<Output = RedisResult<T>>>,
) -> Vec<Result<T, String>> {
    let mut questions: FuturesUnordered<_> = questions
        .into_iter()
        .enumerate()
        .map(|(index, question)| question.map(move |answer| (index, answer)))
        .collect();
    let mut answers: Vec<_> = (0..questions.len()).map(|_| Err("no answer in time".to_owned())).collect();
    let (mut deadline, mut answered) = (Instant::now() + TIME_LIMIT, 0);
    while let Ok(Some((index, answer))) = timeout_at(deadline, questions.next()).await {
        answered += usize::from(answer.is_ok());
        if 2 * answered > answers.len() {
            deadline = deadline.min(Instant::now() + LATE_ANSWER_LIMIT);
        }
        answers[index] = answer.map_err(|error| Error::from(error).to_string());
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn server_that_hangs_delays_the_answers_of_other_servers_only_a_little() {
        let start = Instant::now();
        let ask = async |server: u64| if server == 3 { pending().await } else { Ok(server) };
        assert_eq!(ask_all([1, 2, 3].map(ask)).await, [Ok(1), Ok(2), Err("no answer in time".to_owned())]);
        assert_eq!(start.elapsed(), LATE_ANSWER_LIMIT);
        assert_eq!(ask_all([1, 3].map(ask)).await, [Ok(1), Err("no answer in time".to_owned())]);
        assert_eq!(start.elapsed(), LATE_ANSWER_LIMIT + TIME_LIMIT, "one of two servers is not more than half");
    }
}

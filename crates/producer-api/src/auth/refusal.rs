//! What is said to whom may not do what was asked for.

use queue_core::{Error, RateLimit};
use service::{
    Code, Problem,
    config::{KeyId, Scope},
    wording::cut,
};

use crate::refusal;

/// One answer for no key, a key that is not known, a wrong one, and one that has expired.
pub(super) fn unauthorized() -> Problem {
    let detail = "this needs an API key that is known and valid, in the header Authorization: Bearer drv_…; ask whoever runs \
                  this server for one";
    Problem::new(Code::Unauthorized, detail)
}

/// It says nothing of the queue, not even whether there is one.
pub(super) fn forbidden(key: &KeyId, scope: Scope, queue: &str) -> Problem {
    let queue = cut(queue);
    let detail = format!(
        "the key {key} does not have the scope {scope} for a queue {queue}; use one that does, or ask whoever runs this \
         server to add it to this key"
    );
    lacking(scope, detail)
}

pub(super) fn forbidden_everywhere(key: &KeyId, scope: Scope) -> Problem {
    let detail = format!(
        "the key {key} does not have the scope {scope}; use one that does, or ask whoever runs this server to add it to \
         this key"
    );
    lacking(scope, detail)
}

fn lacking(scope: Scope, detail: String) -> Problem {
    Problem::new(Code::Forbidden, detail).with_scope(scope.as_str())
}

pub(super) fn rate_limited(key: &KeyId, limit: RateLimit) -> Problem {
    let detail = format!(
        "the key {key} may make {} requests in {}, and nothing was done; try again after Retry-After, send more in one \
         batch, or ask whoever runs this server for a higher rate_limit",
        limit.max, limit.duration
    );
    Problem::new(Code::RateLimited, detail)
}

/// Closed, not open: what it is asked for needs Redis too, and would only be refused later, after another time limit.
pub(super) fn not_counted(error: Error) -> Problem {
    let is_away = matches!(error, Error::Unavailable(_));
    let mut problem = refusal::from_queue(error);
    if is_away {
        problem.detail = "Redis is not available now, and nothing was done; try again".into();
    }
    problem
}

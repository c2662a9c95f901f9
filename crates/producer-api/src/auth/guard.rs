//! The guard: it finds the API key of each request, counts the request towards the limit of the key, and refuses requests that
//! the key does not allow.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        MatchedPath, RawPathParams, Request, State,
        rejection::{MatchedPathRejection, RawPathParamsRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use queue_core::{Error, Millis, Redis, settings::RateLimit};
use service::{
    Code, Peer, Problem,
    config::{ApiKey, KeyId, Scope},
    wording::shortened,
};
use tracing::Span;

use super::{
    endpoint::{Endpoints, RequiredScope},
    keyring::Keyring,
};
use crate::errors;

/// The guard, which checks the API key of each request.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) keyring: Arc<Keyring>,
    /// The Redis client, which counts the requests of the keys that have a rate limit.
    pub(crate) redis: Redis,
    pub(crate) endpoints: Arc<Endpoints>,
}

/// Returns the router with the guard in front of it. If no keys are configured, the router is returned unchanged.
pub(crate) fn protect<S: Clone + Send + Sync + 'static>(router: Router<S>, state: Guard) -> Router<S> {
    if state.keyring.is_empty() {
        return router;
    }
    router.layer(middleware::from_fn_with_state(state, check_request))
}

/// Finds the key of a request, counts the request, and passes it on if the key allows it.
async fn check_request(
    State(guard): State<Guard>,
    path: Result<MatchedPath, MatchedPathRejection>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = path.ok();
    if path.as_ref().is_some_and(|path| guard.endpoints.needs_no_key(path.as_str())) {
        return next.run(request).await;
    }
    let Some(key) = bearer_token(request.headers()).and_then(|text| guard.keyring.find(text)).cloned() else {
        let mut refusal = unauthorized().into_response();
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"drover\""));
        return refusal;
    };
    Span::current().record("key", key.id.as_str());
    if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
        peer.note_trusted_client();
    }
    let quota_use = match key.rate_limit {
        None => None,
        Some(limit) => match guard.redis.use_quota(key.id.as_str(), limit).await {
            Ok(quota_use) => Some((limit, quota_use)),
            Err(error) => return quota_unavailable(error).into_response(),
        },
    };
    let refusal = match (quota_use, path) {
        (Some((limit, quota_use)), _) if !quota_use.is_granted => {
            Some(rate_limited(&key.id, limit).with_retry_after(rounded_up_secs(quota_use.more_after)).into_response())
        }
        (_, Some(path)) => guard.refusal(&key, request.method(), path.as_str(), parameters.ok().as_ref()),
        // No route matches the path, so the router answers 404.
        (_, None) => None,
    };
    let mut response = if let Some(refusal) = refusal {
        refusal
    } else {
        request.extensions_mut().insert(key);
        next.run(request).await
    };
    if let Some((limit, quota_use)) = quota_use {
        add_quota_headers(response.headers_mut(), limit, quota_use.remaining, quota_use.more_after);
    }
    response
}

impl Guard {
    /// Returns the error response to a request that the key does not allow; `None` if the key allows the request.
    fn refusal(
        &self,
        key: &ApiKey,
        method: &Method,
        path: &str,
        parameters: Option<&RawPathParams>,
    ) -> Option<Response> {
        let Some(endpoint) = self.endpoints.find(method, path) else {
            // The request is refused even if the router has a handler for the method, because no scope is registered
            // for the method.
            let allow_header = [(header::ALLOW, self.endpoints.allowed_methods(path))];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow_header).into_response());
        };
        let refusal = match endpoint.needs {
            RequiredScope::Nothing | RequiredScope::AnyKey => None,
            RequiredScope::OnQueue(scope) => {
                // The name of a queue that can't be decoded counts as an empty name. Only a key for all queues (`*`) allows an
                // empty name, and then the path extractor reports the error.
                let queue = parameters.and_then(|all| all.iter().find(|(name, _)| *name == "queue"));
                let queue = queue.map_or("", |(_, queue)| queue);
                (!key.allows(scope, queue)).then(|| forbidden(&key.id, scope, Some(queue)))
            }
            RequiredScope::OnAnyQueue(scope) => (!key.scopes.has(scope)).then(|| forbidden(&key.id, scope, None)),
        };
        refusal.map(IntoResponse::into_response)
    }
}

/// Returns the text after `Bearer` in the header `Authorization`, which must occur once.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut header_values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (header_values.next()?, header_values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// Returns the error response to a request whose key is missing, unknown, wrong or expired: the response does not say which.
fn unauthorized() -> Problem {
    let detail = "this request needs an API key that is known and valid, in the header Authorization: Bearer drv_…; ask the \
                  operator of this server for one";
    Problem::new(Code::Unauthorized, detail)
}

/// Returns the error response to a request whose key lacks the scope. The error text does not reveal whether the queue exists.
fn forbidden(key: &KeyId, scope: Scope, queue: Option<&str>) -> Problem {
    let queue_phrase = queue.map(|queue| format!(" for a queue {}", shortened(queue))).unwrap_or_default();
    let detail = format!(
        "the key {key} does not have the scope {scope}{queue_phrase}; use a key that has it, or ask the operator of this server \
         to add it to this key"
    );
    Problem::new(Code::Forbidden, detail).with_scope(scope.as_str())
}

fn rate_limited(key: &KeyId, limit: RateLimit) -> Problem {
    let detail = format!(
        "the key {key} may make {} requests in {}, and nothing was done; try again after the time in Retry-After, send more \
         in one batch, or ask the operator of this server for a higher rate_limit",
        limit.max, limit.duration
    );
    Problem::new(Code::RateLimited, detail)
}

/// Returns the error response to a request whose quota can't be read from Redis. A request whose quota can't be read is refused
/// at once, because the request's operation also needs Redis.
fn quota_unavailable(error: Error) -> Problem {
    let detail = match &error {
        Error::Unavailable(_) => Some("Redis is not available now, and the request was not done; try again".into()),
        Error::NotPermitted(_) => Some(format!("{}. The request was not done", errors::MISSING_RIGHT_DETAIL)),
        _ => None,
    };
    let mut problem = errors::queue_error(error);
    problem.detail = detail.unwrap_or(problem.detail);
    problem
}

/// Returns a duration in whole seconds, rounded up.
fn rounded_up_secs(time: Millis) -> u32 {
    u32::try_from(time.get().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Adds the headers with the rate limit of a key and its remaining quota, in the form that
/// draft-ietf-httpapi-ratelimit-headers-10 defines.
fn add_quota_headers(headers: &mut HeaderMap, limit: RateLimit, remaining: u32, more_after: Millis) {
    const RATELIMIT_POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");
    const RATELIMIT_HEADER: HeaderName = HeaderName::from_static("ratelimit");
    let policy = format!("\"key\";q={};w={}", limit.max, rounded_up_secs(*limit.duration));
    let remaining_quota = format!("\"key\";r={remaining};t={}", rounded_up_secs(more_after));
    for (name, value) in [(RATELIMIT_POLICY_HEADER, policy), (RATELIMIT_HEADER, remaining_quota)] {
        headers.extend(HeaderValue::from_str(&value).ok().map(|value| (name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_key_is_read_from_one_bearer_header_only() {
        let read_key = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
            bearer_token(&values.collect()).map(str::to_owned)
        };
        assert_eq!(read_key(&["Bearer drv_a_b"]).as_deref(), Some("drv_a_b"));
        assert_eq!(read_key(&["bearer  drv_a_b "]).as_deref(), Some("drv_a_b"));
        for wrong in [&[][..], &["drv_a_b"], &["Basic drv_a_b"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn quota_of_an_api_key_is_stated_in_whole_seconds_rounded_up() {
        let mut headers = HeaderMap::new();
        let limit = serde_json::from_str(r#"{"max":100,"duration":"1m"}"#).unwrap();
        add_quota_headers(&mut headers, limit, 99, Millis::new(2_001));
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=100;w=60");
        assert_eq!(headers["ratelimit"], "\"key\";r=99;t=3");
    }
}

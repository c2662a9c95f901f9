//! The guard: it finds the key of each request, counts the request, and lets it go where its key may go.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        MatchedPath, RawPathParams, Request, State,
        rejection::{MatchedPathRejection, RawPathParamsRejection},
    },
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use queue_core::Redis;
use service::{Peer, config::ApiKey};
use tracing::Span;

use super::{
    Keyring,
    quota_headers::{secs, tell},
    refusal,
};
use crate::routes::{Endpoints, Needs};

/// What is asked for each request.
#[derive(Clone)]
struct Gate {
    keyring: Arc<Keyring>,
    endpoints: Arc<Endpoints>,
    redis: Redis,
}

/// Lets only requests through that have a key, and each only where its key may go. Without keys everything is as it was.
pub(crate) fn protect<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    keyring: &Arc<Keyring>,
    endpoints: Arc<Endpoints>,
    redis: Redis,
) -> Router<S> {
    if keyring.is_empty() {
        return router;
    }
    let gate = Gate { keyring: Arc::clone(keyring), endpoints, redis };
    router.layer(middleware::from_fn_with_state(gate, guard))
}

/// Finds out whose request it is, counts it, and lets it go where its key may go.
async fn guard(
    State(gate): State<Gate>,
    path: Result<MatchedPath, MatchedPathRejection>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = path.ok();
    if path.as_ref().is_some_and(|path| gate.endpoints.is_open(path.as_str())) {
        return next.run(request).await;
    }
    let Some(key) = presented(request.headers()).and_then(|presented| gate.keyring.find(presented)).cloned() else {
        let mut refused = refusal::unauthorized().into_response();
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"drover\""));
        return refused;
    };
    Span::current().record("key", key.id.as_str());
    note_trusted(&request);
    let used = match key.rate_limit {
        None => None,
        Some(limit) => match gate.redis.use_quota(key.id.as_str(), limit).await {
            Ok(used) => Some((limit, used)),
            Err(error) => return refusal::not_counted(error).into_response(),
        },
    };
    let refused = match (used, path) {
        (Some((limit, used)), _) if !used.is_granted => {
            Some(refusal::rate_limited(&key.id, limit).with_retry_after(secs(used.more_after)).into_response())
        }
        (_, Some(path)) => gate.refuse(&key, request.method(), path.as_str(), parameters.ok().as_ref()),
        // There is nothing at such a path, and it is told so.
        (_, None) => None,
    };
    let mut response = if let Some(refused) = refused {
        refused
    } else {
        request.extensions_mut().insert(key);
        next.run(request).await
    };
    if let Some((limit, used)) = used {
        tell(response.headers_mut(), limit, used.remaining, used.more_after);
    }
    response
}

/// Where there are no keys, nobody can show one: what would need a key proves as much, and that a client only looks after the
/// server's health proves nothing.
pub(crate) fn note_proven(request: &Request, endpoints: &Endpoints) {
    let path = request.extensions().get::<MatchedPath>();
    if path.is_some_and(|path| !endpoints.is_open(path.as_str())) {
        note_trusted(request);
    }
}

/// The connection of this request is not closed to make room for others.
fn note_trusted(request: &Request) {
    if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
        peer.note_trusted();
    }
}

impl Gate {
    /// The refusal of what the key may not do, if it may not.
    fn refuse(
        &self,
        key: &ApiKey,
        method: &Method,
        path: &str,
        parameters: Option<&RawPathParams>,
    ) -> Option<Response> {
        let Some(endpoint) = self.endpoints.find(method, path) else {
            // The router is not even asked: should it know the method all the same, nobody has said what that needs.
            let allow = [(header::ALLOW, self.endpoints.methods(path))];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
        };
        let refused = match endpoint.needs {
            Needs::Nothing => None,
            Needs::OnQueue(scope) => {
                // A name that can't be decoded is no queue's, so only a key for all queues is told what is wrong with it.
                let queue = parameters.and_then(|all| all.iter().find(|(name, _)| *name == "queue"));
                let queue = queue.map_or("", |(_, queue)| queue);
                (!key.allows(scope, queue)).then(|| refusal::forbidden(&key.id, scope, queue))
            }
            Needs::OnSome(scope) => (!key.scopes.has(scope)).then(|| refusal::forbidden_everywhere(&key.id, scope)),
        };
        refused.map(IntoResponse::into_response)
    }
}

/// What stands after `Bearer` in the one header `Authorization`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_from_one_header_of_its_scheme() {
        let read = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
            presented(&values.collect()).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer drv_a_b"]).as_deref(), Some("drv_a_b"));
        assert_eq!(read(&["bearer  drv_a_b "]).as_deref(), Some("drv_a_b"));
        for wrong in [&[][..], &["drv_a_b"], &["Basic drv_a_b"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}

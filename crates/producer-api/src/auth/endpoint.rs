//! Which scope each route needs. A route that does not stand here is refused.

use axum::http::Method;
use service::config::Scope;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// No key: it tells nothing of any queue.
    Nothing,
    /// This scope on the queue that the path names.
    OnQueue(Scope),
    /// This scope on any queue; the answer is about those on which the key has it.
    OnSome(Scope),
}

use Needed::{Nothing, OnQueue, OnSome};

/// Methods and path of a route, and what it needs. `GET` stands for `HEAD` too.
type Route = (&'static [Method], &'static str, Needed);

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];

const ROUTES: &[Route] = &[
    (GET, "/livez", Nothing),
    (GET, "/readyz", Nothing),
    (GET, "/metrics", Nothing),
    (GET, "/docs", Nothing),
    (GET, "/docs/{file}", Nothing),
    (GET, "/openapi.json", Nothing),
    (POST, "/v1/queues/{queue}/messages", OnQueue(Scope::Enqueue)),
    (POST, "/v1/queues/{queue}/messages/batch", OnQueue(Scope::Enqueue)),
    // It lets go on what a producer has posted, with data of the producer's; so it is a part of posting.
    (POST, "/v1/queues/{queue}/signals/{key}", OnQueue(Scope::Enqueue)),
    (GET, "/v1/queues", OnSome(Scope::Read)),
    (GET, "/v1/queues/{queue}", OnQueue(Scope::Read)),
    (GET, "/v1/queues/{queue}/messages", OnQueue(Scope::Read)),
    (GET, "/v1/queues/{queue}/events", OnQueue(Scope::Read)),
    (GET, "/v1/queues/{queue}/messages/{id}", OnQueue(Scope::Read)),
    (&[Method::DELETE], "/v1/queues/{queue}/messages/{id}", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/messages/{id}/cancel", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/messages/{id}/retry", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/messages/{id}/promote", OnQueue(Scope::Manage)),
    (&[Method::PATCH, Method::DELETE], "/v1/queues/{queue}", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/leases", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/leases/complete", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/leases/fail", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/leases/release", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/leases/extend", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/leases/settle", OnQueue(Scope::Consume)),
    (POST, "/v1/queues/{queue}/pause", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/resume", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/purge", OnQueue(Scope::Manage)),
    (POST, "/v1/queues/{queue}/retry_failed", OnQueue(Scope::Manage)),
];

/// What a route needs, by its path as the router has it; nothing is known of a route that is not on the list.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Needed> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|(methods, known, _)| *known == path && methods.contains(method)).map(|(.., needed)| *needed)
}

/// The methods that a path knows, as the header `Allow` has them; empty when the path is not on the list.
pub(super) fn methods(path: &str) -> String {
    let known = ROUTES.iter().filter(|(_, known, _)| *known == path).flat_map(|(methods, ..)| *methods);
    let words: Vec<&str> =
        known.map(|method| if *method == Method::GET { "GET,HEAD" } else { method.as_str() }).collect();
    words.join(",")
}

/// Whether whatever is at this path needs no key.
pub(super) fn is_open(path: &str) -> bool {
    ROUTES.iter().any(|(_, known, needed)| *known == path && *needed == Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_not_listed_needs_what_nobody_has() {
        assert_eq!(needed(&Method::GET, "/v1/queues"), Some(OnSome(Scope::Read)));
        assert_eq!(needed(&Method::HEAD, "/v1/queues"), Some(OnSome(Scope::Read)));
        assert_eq!(needed(&Method::PUT, "/v1/queues"), None);
        assert_eq!(needed(&Method::GET, "/v1/queues/"), None);
        assert_eq!(needed(&Method::GET, "/v2"), None);
        assert_eq!((methods("/v1/queues/{queue}").as_str(), methods("/v2").as_str()), ("GET,HEAD,PATCH,DELETE", ""));
        assert!(is_open("/livez") && !is_open("/v1/queues") && !is_open("/livez/"));
    }

    #[test]
    fn no_route_is_listed_twice_and_a_path_is_open_to_all_methods_or_to_none() {
        for (at, (methods, path, needs)) in ROUTES.iter().enumerate() {
            for (others, other, needed) in &ROUTES[at + 1..] {
                assert!(path != other || !methods.iter().any(|method| others.contains(method)), "{path}");
                assert!(path != other || (*needs == Nothing) == (*needed == Nothing), "{path}");
            }
            assert_eq!(path.contains("{queue}"), matches!(needs, OnQueue(_)), "{path}");
        }
    }
}

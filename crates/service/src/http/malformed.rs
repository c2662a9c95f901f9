//! Requests that hyper reads and that RFC 9112 does not allow. They are refused, and their connections are closed: the client
//! and the server may disagree about where the next request begins.

use axum::{
    extract::Request,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::{
    Code, Problem, REQUEST_ID,
    problem::{new_request_id, render_problem},
};

/// Refuses a body in an encoding that this server does not read: hyper reads one whose last encoding is `chunked`, and leaves
/// the others to its user.
pub(super) fn refusal_of_encoding<B>(request: &Request<B>) -> Option<Response> {
    let mut encodings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => None,
        (Some(encoding), None) if encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some(malformed(
            "the only transfer-encoding that this server reads is chunked; send the body with that, or with a content-length",
        )),
    }
}

/// A refusal after which the connection is closed.
pub(super) fn malformed(detail: &str) -> Response {
    let mut refusal = refuse(Problem::new(Code::MalformedRequest, detail));
    refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    refusal
}

/// A refusal that is made before a request has an id.
pub(super) fn refuse(problem: Problem) -> Response {
    let mut refusal = problem.into_response();
    refusal.headers_mut().extend(new_request_id().parse().map(|id| (REQUEST_ID, id)));
    render_problem(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(encodings: &[&str]) -> bool {
        let request = encodings
            .iter()
            .fold(Request::builder(), |request, encoding| request.header(header::TRANSFER_ENCODING, *encoding));
        refusal_of_encoding(&request.body(()).unwrap()).is_some_and(|refusal| {
            assert_eq!((refusal.status().as_u16(), &refusal.headers()["connection"]), (400, &"close".parse().unwrap()));
            true
        })
    }

    #[test]
    fn encodings_other_than_chunked_are_refused() {
        for read in [&[][..], &["chunked"], &["Chunked"]] {
            assert!(!is_refused(read), "{read:?}");
        }
        for other in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["chunked, chunked"], &["chunked", "chunked"], &["x"]]
        {
            assert!(is_refused(other), "{other:?}");
        }
    }
}

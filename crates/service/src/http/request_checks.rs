//! Refuses requests that hyper accepts but that are unsafe: requests without exactly one host header, requests to a host name
//! that a web page of another site may control (DNS rebinding), and requests whose transfer encoding a proxy may interpret
//! differently.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderValue, Version, header, uri::Authority},
    response::{IntoResponse, Response},
};

use crate::{
    code::Code,
    problem::{Problem, REQUEST_ID, new_request_id, render_problem},
};

/// The names that a server accepts in the header `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// In the header `host`, the server accepts any host name.
    Any,
    /// In the header `host`, the server accepts only IP addresses, `localhost` and its subdomains, and names without a dot.
    ///
    /// A web page can let its own host name resolve to 127.0.0.1, so that browsers treat its requests as same-origin (DNS
    /// rebinding). Without API keys, every web page that is open on the machine could use the API by DNS rebinding.
    LocalOnly,
}

impl Hosts {
    /// Returns the error response to a request whose host is not allowed.
    pub(super) fn refusal<B>(self, request: &Request<B>) -> Option<Response> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host,
            (None, _) if request.version() < Version::HTTP_11 => return None,
            (None, _) => return Some(malformed_request("a request has a host header (RFC 9112, 3.2); send one")),
            (Some(_), Some(_)) => {
                return Some(malformed_request("a request has one host header (RFC 9112, 3.2); send only one"));
            }
        };
        // A client sends an empty host if the target URI has no authority.
        if self == Self::Any || host.is_empty() {
            return None;
        }
        match host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) {
            Some(host) if is_local(host.host()) => None,
            Some(_) => Some(error_response(Problem::new(
                Code::ForeignHost,
                "without API keys this server answers only requests to localhost or to an IP address, because any web page \
                 could let a host name of its own resolve to this server; use one of these hosts, let your proxy send one \
                 in the host header, or configure keys",
            ))),
            None => {
                Some(malformed_request("the host header of this request is neither a name nor an address; correct it"))
            }
        }
    }
}

fn is_local(host: &str) -> bool {
    const LOCALHOST_SUFFIX: &str = ".localhost";
    let host_end = host.len().checked_sub(LOCALHOST_SUFFIX.len()).and_then(|start| host.get(start..));
    let address = host.trim_start_matches('[').trim_end_matches(']');
    !host.contains('.')
        || host_end.is_some_and(|host_end| host_end.eq_ignore_ascii_case(LOCALHOST_SUFFIX))
        || address.parse::<IpAddr>().is_ok()
}

/// Returns the error response to a body with a transfer encoding other than `chunked`. hyper accepts every list that ends with
/// `chunked`, and does not decode the other encodings.
pub(super) fn refusal_of_encoding<B>(request: &Request<B>) -> Option<Response> {
    let mut encodings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => None,
        (Some(encoding), None) if encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some(malformed_request(
            "the only transfer-encoding that this server reads is chunked; send the body chunked, or with a content-length",
        )),
    }
}

/// Returns the error response to a malformed request. The response closes the connection, because client and server may
/// disagree about where the next request starts.
fn malformed_request(detail: &str) -> Response {
    let mut refusal = error_response(Problem::new(Code::MalformedRequest, detail));
    refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    refusal
}

/// Creates the error response to a request that has no id yet.
fn error_response(problem: Problem) -> Response {
    let mut refusal = problem.into_response();
    refusal.headers_mut().extend(new_request_id().parse().map(|id| (REQUEST_ID, id)));
    render_problem(refusal)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn request_with_header(header: &HeaderName, values: &[&str]) -> Request<()> {
        let add_header = |request: axum::http::request::Builder, value: &&str| request.header(header, *value);
        values.iter().fold(Request::builder(), add_header).body(()).unwrap()
    }

    fn refusal_status(hosts: Hosts, host: &[&str]) -> Option<u16> {
        hosts.refusal(&request_with_header(&header::HOST, host)).map(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn request_has_exactly_one_host() {
        for hosts in [Hosts::Any, Hosts::LocalOnly] {
            assert_eq!(refusal_status(hosts, &[]), Some(400));
            assert_eq!(refusal_status(hosts, &["localhost", "localhost"]), Some(400));
            assert_eq!(refusal_status(hosts, &["localhost"]), None);
            assert_eq!(refusal_status(hosts, &[""]), None);
        }
        let http_1_0_request = Request::builder().version(Version::HTTP_10).body(()).unwrap();
        assert!(Hosts::LocalOnly.refusal(&http_1_0_request).is_none(), "HTTP/1.0 requires no host");
    }

    #[test]
    fn server_without_keys_accepts_only_host_names_that_no_web_page_can_have() {
        for local in
            ["localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "a.Localhost:1", "api:8080"]
        {
            assert_eq!(refusal_status(Hosts::LocalOnly, &[local]), None, "{local}");
        }
        for other in ["evil.example.org", "evil.example.org:8080", "localhost.evil.example", "127.0.0.1.nip.io", "a."] {
            assert_eq!(refusal_status(Hosts::LocalOnly, &[other]), Some(421), "{other}");
            assert_eq!(refusal_status(Hosts::Any, &[other]), None, "{other}");
        }
        assert_eq!(refusal_status(Hosts::LocalOnly, &["a b"]), Some(400));
    }

    #[test]
    fn transfer_encodings_other_than_chunked_are_refused() {
        let refusal =
            |encodings: &[&str]| refusal_of_encoding(&request_with_header(&header::TRANSFER_ENCODING, encodings));
        for read in [&[][..], &["chunked"], &["Chunked"]] {
            assert!(refusal(read).is_none(), "{read:?}");
        }
        for other in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["chunked, chunked"], &["chunked", "chunked"], &["x"]]
        {
            let refusal = refusal(other).unwrap();
            assert_eq!((refusal.status().as_u16(), &refusal.headers()["connection"]), (400, &"close".parse().unwrap()));
        }
    }
}

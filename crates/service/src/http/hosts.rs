//! The header `host` of a request: there is one, and a server without keys has only names that no web page can have.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{Version, header, uri::Authority},
    response::Response,
};

use super::malformed::{malformed, refuse};
use crate::{Code, Problem};

/// By which names a server lets itself be called, in the header `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// By any.
    Any,
    /// By an address, by `localhost` and what is under it, and by names without a dot.
    ///
    /// A web page can let a name of its own point to 127.0.0.1, and then asks as if it came from the server itself (DNS
    /// rebinding). Where everybody on a machine may do everything, that would be every page that is open there.
    OfThisMachine,
}

impl Hosts {
    /// Why a request is not answered, if it isn't.
    pub(super) fn refusal<B>(self, request: &Request<B>) -> Option<Response> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host,
            (None, _) if request.version() < Version::HTTP_11 => return None,
            (None, _) => return Some(malformed("a request has a host header (RFC 9112, 3.2); send one")),
            (Some(_), Some(_)) => {
                return Some(malformed("a request has one host header (RFC 9112, 3.2); send only one"));
            }
        };
        match self {
            Self::Any => None,
            // Empty is what a client says whose target has no name.
            Self::OfThisMachine if host.is_empty() => None,
            Self::OfThisMachine => match host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) {
                Some(host) if is_of_this_machine(host.host()) => None,
                Some(_) => Some(foreign()),
                None => Some(malformed("its host header is no name and no address; mend it")),
            },
        }
    }
}

fn is_of_this_machine(host: &str) -> bool {
    const UNDER_LOCALHOST: &str = ".localhost";
    let end = host.len().checked_sub(UNDER_LOCALHOST.len()).and_then(|start| host.get(start..));
    let address = host.trim_start_matches('[').trim_end_matches(']');
    !host.contains('.')
        || end.is_some_and(|end| end.eq_ignore_ascii_case(UNDER_LOCALHOST))
        || address.parse::<IpAddr>().is_ok()
}

fn foreign() -> Response {
    let detail = "without API keys this server answers only to localhost and to addresses, or any web page could reach it by \
                  letting a name of its own point here; ask by one of these, let your proxy say so in the host header, or \
                  configure keys";
    refuse(Problem::new(Code::ForeignHost, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: Hosts, host: &[&str]) -> Option<u16> {
        let request = host.iter().fold(Request::builder(), |request, host| request.header(header::HOST, *host));
        hosts.refusal(&request.body(()).unwrap()).map(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn a_request_has_one_host() {
        for hosts in [Hosts::Any, Hosts::OfThisMachine] {
            assert_eq!(status(hosts, &[]), Some(400));
            assert_eq!(status(hosts, &["localhost", "localhost"]), Some(400));
            assert_eq!(status(hosts, &["localhost"]), None);
            assert_eq!(status(hosts, &[""]), None);
        }
        let old = Request::builder().version(Version::HTTP_10).body(()).unwrap();
        assert!(Hosts::OfThisMachine.refusal(&old).is_none(), "HTTP/1.0 has none");
    }

    #[test]
    fn a_server_without_keys_answers_only_to_names_that_no_page_can_have() {
        for own in ["localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "a.Localhost:1", "api:8080"]
        {
            assert_eq!(status(Hosts::OfThisMachine, &[own]), None, "{own}");
        }
        for foreign in ["evil.example.org", "evil.example.org:8080", "localhost.evil.example", "127.0.0.1.nip.io", "a."]
        {
            assert_eq!(status(Hosts::OfThisMachine, &[foreign]), Some(421), "{foreign}");
            assert_eq!(status(Hosts::Any, &[foreign]), None, "{foreign}");
        }
        assert_eq!(status(Hosts::OfThisMachine, &["a b"]), Some(400));
    }
}

//! The outcome of a message whose request got no complete response. The reason is stored with the message, so the reason is a
//! fixed text and not a library's error text.

use std::{error::Error, io};

use queue_core::Failure;
use tokio_rustls::rustls::{self, CertificateError};

use super::networks::PrivateAddress;
use crate::routing::Outcome;

const CLOSED_EARLY: &str = "the connection was closed before the answer was whole";

/// Returns the outcome of a message whose request failed with this error. The text of the failure does not contain the URL,
/// which may contain a secret.
pub(super) fn outcome(error: &reqwest::Error) -> Outcome {
    if error.is_builder() {
        return Outcome::FailForGood(Failure::new("url_refused", "no request can be made to this URL"));
    }
    if let Some(refused) = find_cause::<PrivateAddress>(error) {
        return Outcome::FailForGood(Failure::new("address_refused", refused.to_string()));
    }
    let code = if error.is_connect() { "not_connected" } else { "no_answer" };
    Outcome::Retry(Failure::new(code, error_text(error)))
}

/// Returns the text that describes an error of a request.
pub(super) fn error_text(error: &reqwest::Error) -> &'static str {
    if let Some(error) = find_cause::<rustls::Error>(error) {
        return tls_reason(error);
    }
    if error.is_dns() {
        return "no address was found for the host";
    }
    if error.is_timeout() {
        return if error.is_connect() { "no connection within connect_timeout" } else { "no whole answer in time" };
    }
    if let Some(error) = find_cause::<hyper::Error>(error) {
        if error.is_parse() {
            return "the answer is not HTTP";
        }
        if error.is_incomplete_message() {
            return CLOSED_EARLY;
        }
    }
    match error_chain(error).filter_map(<dyn Error>::downcast_ref).last().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused: nothing listens there",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "there is no route to the host",
        Some(io::ErrorKind::TimedOut) => "the host does not answer",
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => {
            if error.is_connect() {
                "the connection was closed during the TLS handshake"
            } else {
                CLOSED_EARLY
            }
        }
        _ if error.is_connect() => "no connection could be opened",
        _ => "the connection broke off, or the answer is not HTTP",
    }
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            C::Expired | C::ExpiredContext { .. } => "its TLS certificate has expired",
            C::NotValidYet | C::NotValidYetContext { .. } => "its TLS certificate is not valid yet",
            C::NotValidForName | C::NotValidForNameContext { .. } => {
                "its TLS certificate is for another name than the URL's"
            }
            C::UnknownIssuer => "its TLS certificate is not trusted: name the certificate of its authority in ca_file",
            C::Revoked => "its TLS certificate is revoked",
            _ => "its TLS certificate is not valid for a server, or is not trusted",
        },
        rustls::Error::InvalidMessage(_) => "the answer is not TLS: should the URL begin with http://?",
        rustls::Error::AlertReceived(_) => "the host refused the TLS handshake",
        rustls::Error::PeerIncompatible(_) => "the host supports no safe version or cipher of TLS",
        _ => "the TLS handshake failed",
    }
}

/// Returns the first error of type `E` in the chain of causes.
fn find_cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    error_chain(error).find_map(<dyn Error>::downcast_ref)
}

/// Returns an iterator over an error and its causes. The error inside an I/O error also counts as a cause, although
/// `source` of the I/O error skips the inner error.
fn error_chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}

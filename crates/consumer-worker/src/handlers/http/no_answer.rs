//! The outcome of a message whose request has no answer. The reason is in words that are no library's, because it is stored with
//! the message.

use std::{error::Error, io};

use queue_core::Failure;
use tokio_rustls::rustls::{self, CertificateError};

use super::networks::PrivateAddress;
use crate::routing::Outcome;

const CLOSED: &str = "the connection was closed before the answer was whole";

/// The outcome of a message whose request failed so. It shows nothing of the URL, which may hold a secret.
pub(super) fn outcome(error: &reqwest::Error) -> Outcome {
    if error.is_builder() {
        return Outcome::FailForGood(Failure::new("url_refused", "no request can be made to this URL"));
    }
    if let Some(refused) = cause::<PrivateAddress>(error) {
        return Outcome::FailForGood(Failure::new("address_refused", refused.to_string()));
    }
    let code = if error.is_connect() { "not_connected" } else { "no_answer" };
    Outcome::Retry(Failure::new(code, reason(error)))
}

/// The reason alone.
pub(super) fn reason(error: &reqwest::Error) -> &'static str {
    if let Some(error) = cause::<rustls::Error>(error) {
        return of_tls(error);
    }
    if error.is_dns() {
        return "no address was found for the host";
    }
    if error.is_timeout() {
        return if error.is_connect() { "no connection within connect_timeout" } else { "no whole answer in time" };
    }
    if let Some(error) = cause::<hyper::Error>(error) {
        if error.is_parse() {
            return "what was answered is not HTTP";
        }
        if error.is_incomplete_message() {
            return CLOSED;
        }
    }
    match causes(error).filter_map(<dyn Error>::downcast_ref).last().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused: nothing listens there",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no way leads to the host",
        Some(io::ErrorKind::TimedOut) => "the host does not answer",
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => {
            if error.is_connect() {
                "the connection was closed while TLS was agreed on"
            } else {
                CLOSED
            }
        }
        _ if error.is_connect() => "no connection came about",
        _ => "the connection broke off, or what was answered is not HTTP",
    }
}

fn of_tls(error: &rustls::Error) -> &'static str {
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
            _ => "its TLS certificate is of no use for a server, or is not trusted",
        },
        rustls::Error::InvalidMessage(_) => "what was answered is not TLS: is the URL to begin with http://?",
        rustls::Error::AlertReceived(_) => "it refused TLS with this worker",
        rustls::Error::PeerIncompatible(_) => "it has no version or cipher of TLS that is safe",
        _ => "there was no agreement on TLS",
    }
}

/// The first cause of a type.
fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    causes(error).find_map(<dyn Error>::downcast_ref)
}

/// An error and its causes. The error inside an I/O error counts as its cause, which `source` skips.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}

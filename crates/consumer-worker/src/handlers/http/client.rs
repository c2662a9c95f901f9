//! Sends requests over pooled connections: over HTTP/2 if TLS negotiates HTTP/2 (ALPN), else over HTTP/1.1. The client follows
//! no redirect and uses no proxy, because a message may be posted to no other host than the configuration allows. The client
//! trusts the certificate authorities of the system, and the authorities in `ca_file`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Response, header::HeaderMap, redirect};
use service::config::FilePath;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use super::{
    networks::{Networks, Resolver},
    no_answer,
};
use crate::routing::Outcome;

/// The time after which the client closes an idle connection. Most servers keep an idle connection open for longer than
/// `IDLE_TIMEOUT`, so the client rarely sends a request over a connection that the server has closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// The pause between two pings on an HTTP/2 connection, and the time limit for the answer to a ping.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// An HTTP client with its connection pool.
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(networks: Networks, connect_timeout: Duration, tls: ClientConfig) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Resolver(networks)))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_INTERVAL)
            .redirect(redirect::Policy::none())
            .no_proxy();
        client.build().map(Self).map_err(|_| "no client for HTTP can be made".into())
    }

    /// POSTs a body, and returns when the headers of the response have arrived. A user and a password in the URL are sent as
    /// a header.
    pub(super) async fn post(&self, url: Url, headers: HeaderMap, body: Bytes) -> Result<Response, Outcome> {
        let answer = self.0.post(url).headers(headers).body(body).send().await;
        answer.map_err(|error| no_answer::outcome(&error))
    }
}

/// The reason why a body was not read to its end.
pub(super) enum ReadError {
    /// The body is larger than the limit.
    TooLarge,
    /// The connection failed before the body was complete, for this reason.
    Interrupted(&'static str),
}

/// Reads up to `max` bytes of a body into `bytes`, and stops soon after `max` if the body is longer. After an error, `bytes`
/// has the part of the body that was read.
pub(super) async fn read_body(answer: &mut Response, max: usize, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
    while let Some(data) =
        answer.chunk().await.map_err(|error| ReadError::Interrupted(no_answer::error_text(&error)))?
    {
        let kept_length = data.len().min(max - bytes.len());
        bytes.extend_from_slice(&data[..kept_length]);
        if kept_length < data.len() {
            return Err(ReadError::TooLarge);
        }
    }
    Ok(())
}

/// Returns the TLS configuration that trusts receivers whose certificates were issued by an authority of the system or of
/// `ca_file`. Returns an error if `ca_file` can't be read or has no certificate, or if TLS is needed and no authority is
/// known.
pub(super) fn tls_config(ca_file: Option<&FilePath>, is_needed: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        // Certificates of the system that can't be read are skipped. If neither the system nor `ca_file` has a
        // certificate, the function returns an error.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let file_error = |problem: String| format!("ca_file: {path}: {problem}");
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| file_error(format!("can't be read: {error}")))?;
        if certificates.is_empty() {
            return Err(file_error("there is no certificate as PEM in it".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| file_error(error.to_string()))?;
        }
    }
    if is_needed && roots.is_empty() {
        return Err("there are no certificates of authorities on this system, so nobody could be trusted: install \
                    ca-certificates, or name some in ca_file"
            .into());
    }
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

//! Sends requests over connections that are kept: HTTP/2 where TLS agrees on it, else HTTP/1.1. The client follows no redirect and
//! uses no proxy, because a message may be posted to no other host than the configuration allows. It trusts the authorities of
//! the system, and those in a file.

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

/// The time after which an idle connection is closed: most servers close it a little later.
const IDLE: Duration = Duration::from_secs(50);
/// The pause between two pings on an HTTP/2 connection, and the time that the server has to answer one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A client, with its connections.
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(networks: Networks, connect_timeout: Duration, tls: ClientConfig) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Resolver(networks)))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .redirect(redirect::Policy::none())
            .no_proxy();
        client.build().map(Self).map_err(|_| "no client for HTTP can be made".into())
    }

    /// POSTs a body, and returns as soon as the headers of the answer are there. A user and a password in the URL are sent as a
    /// header.
    pub(super) async fn post(&self, url: Url, headers: HeaderMap, body: Bytes) -> Result<Response, Outcome> {
        let answer = self.0.post(url).headers(headers).body(body).send().await;
        answer.map_err(|error| no_answer::outcome(&error))
    }
}

/// The reason why a body was not read to its end.
pub(super) enum Unread {
    /// It has more bytes than the limit.
    TooMuch,
    /// It broke off.
    Broken(&'static str),
}

/// Reads a body of up to this many bytes, and of a longer one only a little more. The bytes that were read are kept in any case.
pub(super) async fn read(answer: &mut Response, max: usize, bytes: &mut Vec<u8>) -> Result<(), Unread> {
    while let Some(data) = answer.chunk().await.map_err(|error| Unread::Broken(no_answer::reason(&error)))? {
        let kept = data.len().min(max - bytes.len());
        bytes.extend_from_slice(&data[..kept]);
        if kept < data.len() {
            return Err(Unread::TooMuch);
        }
    }
    Ok(())
}

/// The trust in receivers: in those that the authorities of the system, and those in a file, vouch for. Fails when the file can't
/// be read or holds no certificate, or when there is no authority but one is needed.
pub(super) fn trust(ca_file: Option<&FilePath>, is_needed: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        // Certificates that can't be read are skipped, as long as any are left.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let at = |problem: String| format!("ca_file: {path}: {problem}");
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| at(format!("can't be read: {error}")))?;
        if certificates.is_empty() {
            return Err(at("there is no certificate as PEM in it".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| at(error.to_string()))?;
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

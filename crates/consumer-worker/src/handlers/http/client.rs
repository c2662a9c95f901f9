//! Sends requests over connections that are kept: HTTP/2 where TLS agrees on it, else HTTP/1.1. The client follows no redirect and
//! asks no proxy, because a message may be posted to no other host than the configuration allows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Response, header::HeaderMap, redirect};
use tokio_rustls::rustls::ClientConfig;
use url::Url;

use super::{networks::Networks, no_answer, resolver::Resolver};
use crate::Outcome;

/// A connection that has stood idle for so long is closed: most servers do so a little later.
const IDLE: Duration = Duration::from_secs(50);
/// How often the other end of an HTTP/2 connection is asked whether it still lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A client, with its connections.
pub(super) struct Client(reqwest::Client);

impl Client {
    /// # Errors
    ///
    /// When there is no TLS of this kind.
    pub(super) fn new(networks: Networks, connect_timeout: Duration, tls: ClientConfig) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Resolver { networks }))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .redirect(redirect::Policy::none())
            .no_proxy();
        client.build().map(Self).map_err(|_| "no client for HTTP can be made".into())
    }

    /// POSTs a body, and answers as soon as the headers of the answer are there. A user and a password in the URL are sent as a header.
    pub(super) async fn post(&self, url: Url, headers: HeaderMap, body: Bytes) -> Result<Response, Outcome> {
        let answer = self.0.post(url).headers(headers).body(body).send().await;
        answer.map_err(|error| no_answer::outcome(&error))
    }
}

/// Why a body was not read to its end.
pub(super) enum Unread {
    /// It has more bytes than were asked for.
    TooMuch,
    /// It broke off.
    Broken(&'static str),
}

/// Reads a body up to so many bytes; of a longer one no more than shows that it is. What was read is kept whatever comes.
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

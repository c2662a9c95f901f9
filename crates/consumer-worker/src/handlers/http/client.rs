use std::{error::Error as StdError, io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use queue_core::Failure;
use tokio_rustls::rustls::ClientConfig;
use url::Url;

use super::{
    networks::Networks,
    resolver::{PrivateAddress, Resolver},
};
use crate::Outcome;

/// A connection that has stood idle for so long is closed: most servers do so a little later.
const IDLE: Duration = Duration::from_secs(50);
/// How often the other end of an HTTP/2 connection is asked whether it still lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends requests over connections that are kept: HTTP/2 where TLS agrees on it, else HTTP/1.1. It follows no redirect and
/// asks no proxy: it talks to whom it was told to.
pub(super) struct Client {
    pool: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(networks: Networks, connect_timeout: Duration, tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { networks });
        // https too.
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(connector);
        Self { pool }
    }

    /// POSTs a body, and answers as soon as the headers of the answer are there.
    pub(super) async fn post(
        &self,
        mut url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Outcome> {
        // They stand in a header.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let request = Request::builder().method(Method::POST).uri(url.as_str()).body(Full::new(body));
        let mut request =
            request.map_err(|error| Outcome::FailForGood(Failure::new("url_refused", error.to_string())))?;
        *request.headers_mut() = headers;
        self.pool.request(request).await.map_err(|error| no_answer(&error))
    }
}

fn no_answer(error: &legacy::Error) -> Outcome {
    if let Some(refused) = causes(error).find_map(private_address) {
        return Outcome::FailForGood(Failure::new("address_refused", refused.to_string()));
    }
    let code = if error.is_connect() { "not_connected" } else { "no_answer" };
    Outcome::Retry(Failure::new(code, chain(error)))
}

type AnyError = dyn StdError + 'static;

fn causes(error: &AnyError) -> impl Iterator<Item = &AnyError> {
    std::iter::successors(Some(error), |error: &&AnyError| (*error).source())
}

/// An error with what caused it, as far as it tells.
fn chain(error: &AnyError) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn private_address(error: &AnyError) -> Option<&PrivateAddress> {
    // An `io::Error` is not the source of what it holds: it passes for it.
    error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

/// Why a body was not read to its end.
pub(super) enum Unread {
    /// It has more bytes than were asked for.
    TooMuch,
    /// It broke off.
    Broken(String),
}

/// Reads a body up to so many bytes; of a longer one no more than shows that it is. What was read is kept whatever comes.
pub(super) async fn read(mut body: Incoming, max: usize, bytes: &mut Vec<u8>) -> Result<(), Unread> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| Unread::Broken(chain(&error)))?.into_data() else { continue };
        let kept = data.len().min(max - bytes.len());
        bytes.extend_from_slice(&data[..kept]);
        if kept < data.len() {
            return Err(Unread::TooMuch);
        }
    }
    Ok(())
}

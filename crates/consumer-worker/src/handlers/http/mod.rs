//! The handler `http`, which posts each message to a URL, and decides the outcome of the message by the response.

mod answer;
mod client;
mod headers;
mod networks;
mod no_answer;

use std::{fs, net::IpAddr, time::Duration};

use bytes::Bytes;
use queue_core::Failure;
use service::config::FilePath;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use url::{Host, Url};

use self::{
    client::Client,
    networks::{Networks, PrivateAddress},
};
use crate::{
    config::{AllowedHost, HttpHandler, Output, WebhookSecret},
    job::Job,
    routing::{Handler, Outcome},
};

/// Posts the data of each message to a URL, signed by the rules of Standard Webhooks. The response decides the outcome of the
/// message.
pub(crate) struct Http {
    target: RequestTarget,
    client: Client,
    secrets: Vec<WebhookSecret>,
    timeout: Duration,
    response: Output,
}

impl Http {
    /// Creates the handler. Returns an error if a file that the configuration names can't be used.
    pub(crate) fn new(config: &HttpHandler) -> Result<Self, String> {
        let target = RequestTarget::new(config);
        let mut secrets = config.secret.clone();
        if let Some(path) = &config.secret_file {
            secrets.extend(read_secrets(path).map_err(|error| format!("secret_file: {path}: {error}"))?);
        }
        let timeout = config.timeout.as_deref().unwrap_or(&HttpHandler::DEFAULT_TIMEOUT).to_std();
        let connect_timeout =
            config.connect_timeout.as_deref().unwrap_or(&HttpHandler::DEFAULT_CONNECT_TIMEOUT).to_std();
        let tls = client::tls_config(config.ca_file.as_ref(), target.may_be_https())?;
        let client = Client::new(target.networks.clone(), connect_timeout, tls)?;
        Ok(Self { target, client, secrets, timeout, response: config.response })
    }

    /// Posts the message. At the time-out of the run, the worker drops the future of `handle`, which also closes an
    /// HTTP/1.1 connection.
    async fn post(&self, job: &Job, url: Url) -> Outcome {
        let body = Bytes::copy_from_slice(job.message().data.get().as_bytes());
        let headers = headers::request_headers(job, &self.secrets, &body);
        match self.client.post(url, headers, body).await {
            Ok(answer) => answer::outcome(answer, self.response).await,
            Err(no_answer) => no_answer,
        }
    }
}

impl Handler for Http {
    async fn handle(&self, job: Job) -> Outcome {
        let (url, host_index) = match self.target.url_for(&job) {
            Ok(found) => found,
            Err(refused) => return Outcome::FailForGood(refused),
        };
        let _permit = self.target.wait_for_permit(host_index).await;
        timeout(self.timeout, self.post(&job, url)).await.unwrap_or_else(|_| {
            let message = format!("there was no whole answer within {:?}", self.timeout);
            Outcome::Retry(Failure::new("timed_out", message))
        })
    }
}

fn read_secrets(path: &FilePath) -> Result<Vec<WebhookSecret>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("can't be read: {error}"))?;
    WebhookSecret::parse_lines(&text)
}

/// Where the handler `http` sends its requests: the source of the URLs, and the networks and the limits of their hosts.
struct RequestTarget {
    url_source: UrlSource,
    networks: Networks,
    /// The limits of concurrent requests to each host; `None` if there is no limit.
    permits: Option<Vec<Semaphore>>,
}

/// One URL for all messages, or the message header that contains the URL.
enum UrlSource {
    Fixed(Url),
    Header { name: String, allowed_hosts: Vec<AllowedHost> },
}

impl RequestTarget {
    fn new(config: &HttpHandler) -> Self {
        let (url_source, networks, hosts) = if let Some(url) = &config.url {
            (UrlSource::Fixed(url.expose().clone()), Networks::All, 1)
        } else {
            let (name, allowed_hosts) = (config.url_header.clone().unwrap_or_default(), config.allowed_hosts.clone());
            let hosts = allowed_hosts.len();
            (UrlSource::Header { name, allowed_hosts }, Networks::PublicAnd(config.allowed_networks.clone()), hosts)
        };
        let permits = config.concurrency.map(|limit| (0..hosts).map(|_| Semaphore::new(limit)).collect());
        Self { url_source, networks, permits }
    }

    /// Returns whether a URL may be https, so that certificate authorities are needed.
    fn may_be_https(&self) -> bool {
        match &self.url_source {
            UrlSource::Fixed(url) => url.scheme() == "https",
            UrlSource::Header { .. } => true,
        }
    }

    /// Returns the URL of a message and the index of its host, or a failure if the URL is missing, invalid or not allowed.
    fn url_for(&self, job: &Job) -> Result<(Url, usize), Failure> {
        let (name, allowed_hosts) = match &self.url_source {
            UrlSource::Fixed(url) => return Ok((url.clone(), 0)),
            UrlSource::Header { name, allowed_hosts } => (name, allowed_hosts),
        };
        let refused_url = |why: String| Failure::new("url_refused", why);
        let text = job.header(name).ok_or_else(|| refused_url(format!("the message has no header {name}")))?;
        let url = Url::parse(text).map_err(|error| refused_url(format!("its header {name} is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused_url(format!("its header {name} must be an http:// or https:// URL")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused_url(format!("its header {name} must not have a user or a password")));
        }
        let host = url.host_str().unwrap_or_default();
        let Some(host_index) = allowed_hosts.iter().position(|allowed| allowed.matches(&url)) else {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(refused_url(format!(
                "{host}{port} is not among the allowed_hosts of the worker; they name its port unless it is the scheme's own"
            )));
        };
        // The resolver checks only the addresses of host names, so an IP address in the URL is checked separately.
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        match address {
            Some(address) if !self.networks.allows(address) => {
                let error = PrivateAddress { host: host.to_owned(), address };
                Err(Failure::new("address_refused", error.to_string()))
            }
            _ => Ok((url, host_index)),
        }
    }

    /// Waits until another request to the host may start, and returns a permit for the request; `None` if concurrent
    /// requests have no limit.
    async fn wait_for_permit(&self, host_index: usize) -> Option<SemaphorePermit<'_>> {
        // `acquire` can't fail, because no code closes the semaphore.
        self.permits.as_ref()?.get(host_index)?.acquire().await.ok()
    }
}

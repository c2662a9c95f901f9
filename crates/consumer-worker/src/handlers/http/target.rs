//! The URL of each message, and how many requests are under way to one host.

use std::net::IpAddr;

use queue_core::Failure;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::{Host, Url};

use super::{networks::Networks, resolver::PrivateAddress};
use crate::{
    Job,
    config::{AllowedHost, HttpHandler},
};

/// Where messages go, and how many at once.
pub(super) struct Target {
    place: Place,
    networks: Networks,
    /// For requests under way, by host.
    places: Option<Vec<Semaphore>>,
}

/// The URL of all messages, or where each of them names its own.
enum Place {
    Fixed(Url),
    Header { name: String, allowed_hosts: Vec<AllowedHost> },
}

impl Target {
    pub(super) fn new(config: &HttpHandler) -> Self {
        let (place, networks, hosts) = if let Some(url) = &config.url {
            (Place::Fixed(url.expose().clone()), Networks::All, 1)
        } else {
            let (name, allowed_hosts) = (config.url_header.clone().unwrap_or_default(), config.allowed_hosts.clone());
            let hosts = allowed_hosts.len();
            (Place::Header { name, allowed_hosts }, Networks::PublicAnd(config.allowed_networks.clone()), hosts)
        };
        let places = config.concurrency.map(|limit| (0..hosts).map(|_| Semaphore::new(limit)).collect());
        Self { place, networks, places }
    }

    pub(super) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Whether certificates will be needed.
    pub(super) fn may_be_https(&self) -> bool {
        match &self.place {
            Place::Fixed(url) => url.scheme() == "https",
            Place::Header { .. } => true,
        }
    }

    /// The URL of a message, and which of the hosts it names.
    ///
    /// # Errors
    ///
    /// When the message names none that is allowed; no further attempt will change that.
    pub(super) fn of(&self, job: &Job) -> Result<(Url, usize), Failure> {
        let (name, allowed_hosts) = match &self.place {
            Place::Fixed(url) => return Ok((url.clone(), 0)),
            Place::Header { name, allowed_hosts } => (name, allowed_hosts),
        };
        let refused = |why: String| Failure::new("url_refused", why);
        let text = job.headers().get(name).ok_or_else(|| refused(format!("the message has no header {name}")))?;
        let url = Url::parse(text).map_err(|error| refused(format!("its header {name} is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(format!("its header {name} must be an http:// or https:// URL")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(format!("its header {name} must not have a user or a password")));
        }
        let host = url.host_str().unwrap_or_default();
        let Some(at) = allowed_hosts.iter().position(|allowed| allowed.fits(&url)) else {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(refused(format!(
                "{host}{port} is not among the allowed_hosts of the worker; they name its port unless it is the scheme's own"
            )));
        };
        // What is an address already is never resolved.
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        match address {
            Some(address) if !self.networks.allow(address) => {
                let error = PrivateAddress { host: host.to_owned(), address };
                Err(Failure::new("address_refused", error.to_string()))
            }
            _ => Ok((url, at)),
        }
    }

    /// Waits for a place among the requests to a host; nothing where there is no limit.
    pub(super) async fn place(&self, host: usize) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.places.as_ref()?.get(host)?.acquire().await.ok()
    }
}

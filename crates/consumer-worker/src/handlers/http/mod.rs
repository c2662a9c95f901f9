//! The handler `http`: POSTs each message to a URL.

mod answer;
mod client;
mod headers;
mod networks;
mod no_answer;
mod resolver;
mod retry_after;
mod signature;
mod target;
mod tls;

use std::{fs, time::Duration};

use bytes::Bytes;
use queue_core::Failure;
use service::config::FilePath;
use tokio::time::timeout;
use url::Url;

use self::{client::Client, target::Target};
use crate::{
    Handler, Job, Outcome,
    config::{HttpHandler, Output, WebhookSecret},
};

/// POSTs the data of each message to a URL, signed as Standard Webhooks say. The answer says what came of it.
pub(crate) struct Http {
    target: Target,
    client: Client,
    secrets: Vec<WebhookSecret>,
    timeout: Duration,
    response: Output,
}

impl Http {
    /// # Errors
    ///
    /// When a file that the configuration names is of no use.
    pub(crate) fn new(config: &HttpHandler) -> Result<Self, String> {
        let target = Target::new(config);
        let mut secrets = config.secret.clone();
        if let Some(path) = &config.secret_file {
            secrets.extend(read_secrets(path).map_err(|error| format!("secret_file: {path}: {error}"))?);
        }
        let timeout = config.timeout.as_deref().unwrap_or(&HttpHandler::DEFAULT_TIMEOUT).to_std();
        let connect_timeout =
            config.connect_timeout.as_deref().unwrap_or(&HttpHandler::DEFAULT_CONNECT_TIMEOUT).to_std();
        let tls = tls::client_config(config.ca_file.as_ref(), target.may_be_https())?;
        let client = Client::new(target.networks().clone(), connect_timeout, tls)?;
        Ok(Self { target, client, secrets, timeout, response: config.response })
    }

    /// Dropped at the time-out, with the connection if it is not shared.
    async fn post(&self, job: &Job, url: Url) -> Outcome {
        let body = Bytes::copy_from_slice(job.message().data.get().as_bytes());
        let headers = headers::of(job, &self.secrets, &body);
        match self.client.post(url, headers, body).await {
            Ok(answer) => answer::outcome(answer, self.response).await,
            Err(no_answer) => no_answer,
        }
    }
}

impl Handler for Http {
    async fn handle(&self, job: Job) -> Outcome {
        let (url, host) = match self.target.of(&job) {
            Ok(found) => found,
            Err(refused) => return Outcome::FailForGood(refused),
        };
        let _place = self.target.place(host).await;
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

//! Redis Sentinel: asks the Sentinels which server is the primary.

use std::{collections::HashMap, time::Duration};

use deadpool_redis::redis::{self, RedisResult};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    error::Error,
    redis::endpoint::{Address, Endpoint},
};

/// The time limit of a question to one Sentinel. Others answer meanwhile.
const TIME_LIMIT: Duration = Duration::from_millis(500);

/// The Sentinels, and the primary that they are asked for.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Endpoint>,
    /// The name under which the Sentinels know the primary.
    pub(crate) service: String,
    /// The user and the TLS of connections to the primary; its address is that of the first Sentinel.
    pub(crate) primary: Endpoint,
}

/// What one Sentinel says.
struct View {
    address: Address,
    /// Grows with each fail-over, so the Sentinel with the highest one knows the latest primary.
    config_epoch: u64,
}

impl Sentinels {
    /// The server that is the primary now.
    pub(crate) async fn primary(&self) -> Result<Endpoint, String> {
        let answers =
            join_all(self.servers.iter().map(async |sentinel| match timeout(TIME_LIMIT, self.ask(sentinel)).await {
                Ok(answer) => answer.map_err(|error| Error::from(error).to_string()),
                Err(_) => Err(format!("no answer within {TIME_LIMIT:?}")),
            }))
            .await;
        let mut views = Vec::new();
        let mut reasons = Vec::new();
        for (sentinel, answer) in self.servers.iter().zip(answers) {
            match answer {
                Ok(Some(view)) => views.push(view),
                Ok(None) => reasons.push(format!("{} knows no primary {:?}", sentinel.address, self.service)),
                Err(error) => reasons.push(format!("{}: {error}", sentinel.address)),
            }
        }
        match views.into_iter().max_by_key(|view| view.config_epoch) {
            Some(View { address, .. }) => Ok(Endpoint { address, ..self.primary.clone() }),
            None => Err(format!("no Sentinel names the primary: {}", reasons.join("; "))),
        }
    }

    async fn ask(&self, sentinel: &Endpoint) -> RedisResult<Option<View>> {
        let mut connection = sentinel.open().await?;
        let mut questions = redis::pipe();
        // The first answer names a new primary some time before the second one does, but only the second has the epoch.
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let (address,): (Option<(String, u16)>,) = questions.query_async(&mut connection.multiplexed).await?;
        let Some((host, port)) = address else { return Ok(None) };
        let mut about = redis::cmd("SENTINEL");
        about.arg("MASTER").arg(&self.service);
        let fields: HashMap<String, String> = about.query_async(&mut connection.multiplexed).await?;
        let config_epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(Some(View { address: Address::Tcp(host, port), config_epoch }))
    }
}

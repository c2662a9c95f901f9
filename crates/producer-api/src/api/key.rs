//! The description of the API key of a request: what its owner may do.

use serde::Serialize;
use service::config::{ApiKey, Scope};
use utoipa::ToSchema;

/// The rights of the client. Without API keys, every client may do everything.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({"id": "shop", "scopes": ["enqueue", "read"], "queues": ["mails", "user-*"]})))]
pub(crate) struct KeyRights {
    /// The name of the key's owner; null if the API has no keys.
    #[schema(required)]
    id: Option<String>,
    /// The scopes of the key: `enqueue`, `read`, `consume`, `manage`.
    scopes: Vec<&'static str>,
    /// The queues on which the key has these scopes: names, starts of names (`user-*`), or `*`.
    queues: Vec<String>,
}

impl KeyRights {
    /// The rights of a key, or all rights if the API has no keys.
    pub(crate) fn from_key(key: Option<&ApiKey>) -> Self {
        let has = |scope: &Scope| key.is_none_or(|key| key.scopes.has(*scope));
        Self {
            id: key.map(|key| key.id.as_str().to_owned()),
            scopes: Scope::ALL.iter().filter(|scope| has(scope)).map(|scope| scope.as_str()).collect(),
            queues: match key {
                None => vec!["*".to_owned()],
                Some(key) => key.queues.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            },
        }
    }
}

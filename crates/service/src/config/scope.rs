//! The scopes of API keys: what a key is for.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::nearest::no_such;

/// What an API key may do with its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// Post messages, and send the signals that release them.
    Enqueue,
    /// Read messages and queues.
    Read,
    /// Lease messages and settle them.
    Consume,
    /// Change, move and delete messages and queues.
    Manage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Enqueue, Self::Read, Self::Consume, Self::Manage];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        found.ok_or_else(|| no_such(word, Self::ALL.map(Self::as_str)))
    }
}

/// The scopes of one key: at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Whether it is among them.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = String;

    fn try_from(mut scopes: Vec<Scope>) -> Result<Self, String> {
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(format!(
                "a key without a scope is for nothing; there are {}",
                Scope::ALL.map(Scope::as_str).join(", ")
            ));
        }
        Ok(Self(scopes))
    }
}

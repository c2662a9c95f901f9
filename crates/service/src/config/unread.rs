//! The section `worker` as all programs but a worker have it: they know the names of its keys, so that one that is not spelt right
//! stops either service, but not what stands in the routes.

use std::{collections::BTreeMap, sync::LazyLock};

use queue_core::DeclaredSettings;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::{load::Section, source::DEFAULT};

/// The keys of a section that is not read. Lists and tables in it, which may hold secrets, are not even kept.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Unread(BTreeMap<String, Value>);

/// The keys that the defaults have: all of the section have a default.
static KEYS: LazyLock<&[&str]> = LazyLock::new(|| {
    let defaults: toml::Table = DEFAULT.parse().expect("the defaults are TOML");
    let keys = defaults["worker"].as_table().into_iter().flat_map(toml::Table::keys);
    keys.map(|key| &*key.clone().leak()).collect::<Vec<_>>().leak()
});

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::<String, Value>::deserialize(deserializer)?;
        if let Some(unknown) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(D::Error::unknown_field(unknown, &KEYS));
        }
        keys.retain(|_, value| !(value.is_array() || value.is_object()));
        Ok(Self(keys))
    }
}

impl Section for Unread {
    fn validate(&self, _: &DeclaredSettings) -> Result<(), String> {
        Ok(())
    }
}

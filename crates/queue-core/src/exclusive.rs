use std::{fmt, num::NonZeroU32};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use crate::number;

/// Whether only one consumer at a time has access to a queue.
///
/// In JSON `false`, `true` (one message at a time) or `{"parallel": n}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exclusive {
    /// All have.
    #[default]
    No,
    /// One has, and works on at most so many messages at a time: 1 to 1,000.
    Parallel(NonZeroU32),
}

impl Exclusive {
    const MOST: u32 = 1_000;

    /// As the scripts read it; nothing for a queue that is not exclusive.
    pub(crate) fn encode(self) -> Option<String> {
        match self {
            Self::No => None,
            Self::Parallel(parallel) => Some(parallel.to_string()),
        }
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::Parallel)
    }
}

impl Serialize for Exclusive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Parallel(parallel) if parallel.get() == 1 => serializer.serialize_bool(true),
            Self::Parallel(parallel) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("parallel", parallel)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Exclusive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrMap;
        impl<'de> de::Visitor<'de> for BoolOrMap {
            type Value = Exclusive;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or {\"parallel\": n}")
            }

            fn visit_bool<E>(self, exclusive: bool) -> Result<Exclusive, E> {
                Ok(if exclusive { Exclusive::Parallel(NonZeroU32::MIN) } else { Exclusive::No })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Exclusive, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Object {
                    #[serde(deserialize_with = "number::unsigned")]
                    parallel: u32,
                }
                let Object { parallel } = Object::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match NonZeroU32::new(parallel) {
                    Some(parallel) if parallel.get() <= Exclusive::MOST => Ok(Exclusive::Parallel(parallel)),
                    _ => Err(de::Error::custom("parallel must be 1 to 1000")),
                }
            }
        }
        deserializer.deserialize_any(BoolOrMap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_contract_says_and_writes_what_it_reads() {
        for (json, text) in [("false", None), ("true", Some("1")), (r#"{"parallel":7}"#, Some("7"))] {
            let exclusive: Exclusive = serde_json::from_str(json).unwrap();
            assert_eq!(exclusive.encode().as_deref(), text);
            assert_eq!(serde_json::to_string(&exclusive).unwrap(), json);
            assert_eq!(text.and_then(Exclusive::decode).unwrap_or_default(), exclusive);
        }
        for bad in [r#"{"parallel":0}"#, r#"{"parallel":1001}"#, r#"{"paralel":1}"#, "1", r#""true""#] {
            assert!(serde_json::from_str::<Exclusive>(bad).is_err(), "{bad}");
        }
    }
}

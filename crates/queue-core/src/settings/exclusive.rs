//! The setting `exclusive`: whether only one consumer at a time has access to a queue.

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AnyOfBuilder, ObjectBuilder, Type},
    },
};

use crate::range::NumberIn;

/// Whether only one consumer at a time has access to a queue: `false`, `true` (one message at a time) or `{"parallel": n}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Exclusive {
    /// `false`: all consumers have access; `true`: one consumer has access, and works on one message at a time.
    Is(bool),
    /// One consumer, the owner, has access, and works on up to `parallel` messages at a time.
    Parallel {
        /// The maximum number of messages that the owner works on at a time: 1 to 1,000.
        parallel: MaxParallelMessages,
    },
}

type MaxParallelMessages = NumberIn<1, 1_000>;

impl Default for Exclusive {
    fn default() -> Self {
        Self::Is(false)
    }
}

/// One consumer has access, and works on up to `parallel` messages at a time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExclusiveObject {
    /// The maximum number of messages that the owner works on at a time.
    #[schema(inline)]
    parallel: MaxParallelMessages,
}

impl<'de> Deserialize<'de> for Exclusive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrMap;
        impl<'de> de::Visitor<'de> for BoolOrMap {
            type Value = Exclusive;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, or {\"parallel\": n}")
            }

            fn visit_bool<E>(self, is_exclusive: bool) -> Result<Exclusive, E> {
                Ok(Exclusive::Is(is_exclusive))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Exclusive, A::Error> {
                let ExclusiveObject { parallel } =
                    ExclusiveObject::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(if *parallel == 1 { Exclusive::Is(true) } else { Exclusive::Parallel { parallel } })
            }
        }
        deserializer.deserialize_any(BoolOrMap)
    }
}

impl PartialSchema for Exclusive {
    fn schema() -> RefOr<Schema> {
        let boolean = ObjectBuilder::new().schema_type(Type::Boolean);
        AnyOfBuilder::new().item(boolean).item(ExclusiveObject::schema()).into()
    }
}

impl ToSchema for Exclusive {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_setting_is_a_boolean_or_a_parallel_number_and_reads_back() {
        for json in ["false", "true", r#"{"parallel":7}"#] {
            let exclusive: Exclusive = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&exclusive).unwrap(), json);
        }
        assert_eq!(serde_json::from_str::<Exclusive>(r#"{"parallel":1}"#).unwrap(), Exclusive::Is(true));
        for bad in [r#"{"parallel":0}"#, r#"{"parallel":1001}"#, r#"{"paralel":1}"#, "1", r#""true""#] {
            assert!(serde_json::from_str::<Exclusive>(bad).is_err(), "{bad}");
        }
    }
}

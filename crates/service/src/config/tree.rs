//! The tree of values that a configuration is read from, with the origin of each value. Its deserializer is ours: that of the
//! crate `config` takes "yes" for true and 1 for a text, and its errors show values, which may be secrets.

use std::collections::BTreeMap;

use config::{ConfigBuilder, ConfigError, Map, Value, ValueKind, builder::DefaultState};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_path_to_error::{Path, Segment};

use super::{
    mistake::Mistake,
    source::{ROOT, is_variable, structure},
};

/// A value, or a table of values.
#[derive(Debug, Clone)]
pub(super) struct Tree(pub(super) Value);

impl Tree {
    /// Lays sources over each other, the last one on top: tables are merged key by key, everything else is replaced.
    ///
    /// # Errors
    ///
    /// The mistake in a source.
    pub(super) fn of(sources: ConfigBuilder<DefaultState>) -> Result<Self, ConfigError> {
        Ok(Self(sources.build()?.get_table(ROOT)?.into()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        matches!(&self.0.kind, ValueKind::Table(table) if table.contains_key(key))
    }

    /// Where the value of a path was set, as a remark; of a list, where the whole list was.
    pub(super) fn origin_of(&self, path: &Path) -> Option<&str> {
        let mut value = &self.0;
        for segment in path {
            let (ValueKind::Table(table), Segment::Map { key }) = (&value.kind, segment) else { break };
            let Some(within) = table.get(key) else { break };
            value = within;
        }
        origin(value)
    }

    /// The value of a variable's text where its key does not expect a text.
    fn meant(self) -> Result<ValueKind, Mistake> {
        let text = match self.0.kind {
            ValueKind::String(ref text) if is_variable(&self.0) => text,
            kind => return Ok(kind),
        };
        if let Some(structure) = structure(text, None) {
            return Ok(structure.kind);
        }
        if text.trim_start().starts_with(['[', '{']) {
            return Err(Mistake::custom("is neither valid JSON nor a list or table as TOML has them"));
        }
        Ok(match serde_json::from_str::<Value>(text) {
            Ok(Value { kind: kind @ (ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::Float(_)), .. }) => kind,
            _ => self.0.kind,
        })
    }
}

/// Where a value was set; of a table, where all that is in it was.
fn origin(value: &Value) -> Option<&str> {
    let ValueKind::Table(table) = &value.kind else { return value.origin() };
    let mut origins = table.values().map(origin);
    let first = origins.next()?;
    first.filter(|_| origins.all(|other| other == first))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }
}

/// A table that is read in parts, because a word in it says what else stands there. Each mistake in it is told with its path.
#[derive(Debug)]
pub struct Table(Map<String, Value>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Tree::deserialize(deserializer)?.0.kind {
            ValueKind::Table(keys) => Ok(Self(keys)),
            _ => Err(D::Error::custom("expected a table: write { type = \"…\" }")),
        }
    }
}

impl Table {
    /// Takes out the value of a key, which must be there.
    ///
    /// # Errors
    ///
    /// When it is not there, or not of its kind.
    pub fn take<T: DeserializeOwned, E: Error>(&mut self, key: &str) -> Result<T, E> {
        let value = self.0.remove(key).ok_or_else(|| E::custom(format!("the key {key} is missing; write it too")))?;
        Tree(value).read().map_err(|found| E::custom(format!(".{key}: {found}")))
    }

    /// Reads what is left.
    ///
    /// # Errors
    ///
    /// When a key is unknown or missing, or a value not of its kind.
    pub fn read<T: DeserializeOwned, E: Error>(self) -> Result<T, E> {
        Tree(self.0.into()).read().map_err(|found| found.within())
    }
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.meant()? {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(number) => visitor.visit_i64(number),
            ValueKind::I128(number) => visitor.visit_i128(number),
            ValueKind::U64(number) => visitor.visit_u64(number),
            ValueKind::U128(number) => visitor.visit_u128(number),
            ValueKind::Float(number) => visitor.visit_f64(number),
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Self))),
            ValueKind::Table(table) => {
                // Of several mistakes the same one is told each time.
                let table: BTreeMap<_, _> = table.into_iter().map(|(key, value)| (key, Self(value))).collect();
                visitor.visit_map(MapDeserializer::new(table.into_iter()))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.kind {
            ValueKind::String(text) => visitor.visit_string(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.meant()? {
            // It would be taken for the list of its members.
            ValueKind::Array(_) => Err(Mistake::invalid_type(Unexpected::Seq, &"a table")),
            kind => Self(kind.into()).deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.0.kind {
            ValueKind::String(word) => visitor.visit_enum(StringDeserializer::new(word)),
            _ => Err(Mistake::custom(format!("expected one of {}", words.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

impl serde::de::IntoDeserializer<'_, Mistake> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Setting;

    #[test]
    fn a_text_of_the_environment_becomes_what_its_key_expects() {
        fn read<T: Deserialize<'static>>(text: &str) -> Result<T, String> {
            let setting = Setting { variable: "DROVER__A".into(), path: Vec::new(), text: text.into() };
            T::deserialize(Tree(setting.value())).map_err(|mistake| mistake.to_string())
        }
        assert_eq!(read::<String>("5").unwrap(), "5");
        assert_eq!(read::<String>("[a]").unwrap(), "[a]");
        assert_eq!((read::<u32>("5").unwrap(), read::<bool>("true").unwrap()), (5, true));
        assert_eq!(read::<Option<f64>>("0.5").unwrap(), Some(0.5));
        for list in [r#"["a", "b"]"#, "[ 'a', \"b\", ]"] {
            assert_eq!(read::<Vec<String>>(list).unwrap(), ["a", "b"]);
        }
        for table in [r#"{"a": 1}"#, "{ a = 1 }"] {
            assert_eq!(read::<BTreeMap<String, u32>>(table).unwrap(), BTreeMap::from([("a".into(), 1)]));
        }
        assert!(read::<Vec<String>>("[a").unwrap_err().contains("neither valid JSON"));
        assert!(read::<u32>("hunter2").unwrap_err().contains("is a text, expected a whole number"));
        // It is a list and nothing more.
        assert!(read::<Vec<String>>("[]\nb = 1").is_err());
    }
}

//! The tree of values that a configuration is read from: what stands in TOML files, with the texts of the environment over it.

use std::collections::BTreeMap;

use serde::{
    Deserializer,
    de::{
        Error, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

use super::mistake::Mistake;

/// A value, or a table of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Nothing,
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    /// A text of the environment: it becomes what its key expects.
    Variable(String),
    List(Vec<Tree>),
    Table(BTreeMap<String, Tree>),
}

impl Tree {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// Where it is not TOML, and why, without the text itself: a secret may stand there.
    pub(super) fn of_toml(text: &str) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("line {line}, column {column} is not valid TOML: {}", error.message())
        })?;
        Ok(toml::Value::Table(table).into())
    }

    /// A text of the environment. A table is read at once, so that it is merged with other tables.
    pub(super) fn of_variable(text: String) -> Self {
        let table = text.trim_start().starts_with('{').then(|| structure(&text)).flatten();
        table.unwrap_or(Self::Variable(text))
    }

    /// A value under a path of keys.
    pub(super) fn at(path: &[String], value: Self) -> Self {
        path.iter().rev().fold(value, |value, key| Self::Table(BTreeMap::from([(key.clone(), value)])))
    }

    /// Puts `over` over it: tables are merged key by key, everything else is replaced.
    pub(super) fn put_over(&mut self, over: Self) {
        match (self, over) {
            (Self::Table(table), Self::Table(over)) => {
                for (key, value) in over {
                    table.entry(key).or_insert(Self::Nothing).put_over(value);
                }
            }
            (tree, over) => *tree = over,
        }
    }

    /// What a text of the environment is where its key does not expect a text.
    fn meant(self) -> Result<Self, Mistake> {
        let Self::Variable(text) = self else { return Ok(self) };
        if let Some(structure) = structure(&text) {
            return Ok(structure);
        }
        if text.trim_start().starts_with(['[', '{']) {
            return Err(Mistake::custom("is neither valid JSON nor a list or table as TOML has them"));
        }
        Ok(match serde_json::from_str(&text) {
            Ok(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => value.into(),
            _ => Self::Text(text),
        })
    }
}

/// The list or table that a text is, as JSON or as TOML.
fn structure(text: &str) -> Option<Tree> {
    let text = text.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        return Some(json.into());
    }
    let Ok(Tree::Table(mut table)) = Tree::of_toml(&format!("it = {text}")) else { return None };
    table.remove("it").filter(|_| table.is_empty())
}

impl From<toml::Value> for Tree {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::Text(text),
            toml::Value::Integer(number) => Self::Whole(number),
            toml::Value::Float(number) => Self::Number(number),
            toml::Value::Boolean(value) => Self::Bool(value),
            toml::Value::Datetime(instant) => Self::Text(instant.to_string()),
            toml::Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            toml::Value::Table(table) => {
                Self::Table(table.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl From<serde_json::Value> for Tree {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Nothing,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => {
                number.as_i64().map_or_else(|| Self::Number(number.as_f64().unwrap_or(f64::NAN)), Self::Whole)
            }
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(table) => {
                Self::Table(table.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.meant()? {
            Self::Nothing => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Whole(number) => visitor.visit_i64(number),
            Self::Number(number) => visitor.visit_f64(number),
            Self::Text(text) | Self::Variable(text) => visitor.visit_string(text),
            Self::List(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter())),
            Self::Table(table) => visitor.visit_map(MapDeserializer::new(table.into_iter())),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Variable(text) => visitor.visit_string(text),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Nothing => visitor.visit_none(),
            some => visitor.visit_some(some),
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
            Self::List(_) => Err(Mistake::invalid_type(Unexpected::Seq, &"a table")),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Self::Text(word) | Self::Variable(word) => visitor.visit_enum(StringDeserializer::new(word)),
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

    #[test]
    fn a_text_of_the_environment_becomes_what_its_key_expects() {
        use serde::Deserialize;
        fn read<T: Deserialize<'static>>(text: &str) -> Result<T, String> {
            T::deserialize(Tree::of_variable(text.into())).map_err(|mistake| mistake.to_string())
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

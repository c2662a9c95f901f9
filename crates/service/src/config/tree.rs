//! The tree of values that a configuration is read from. The tree has its own deserializer, because the deserializer of
//! `serde_json` accepts a list as a table and repeats values in errors. An error of the tree's deserializer names the key and
//! the kind of its value, and never the value, which may be a secret.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, Expected, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;
use serde_path_to_error::Path;

use crate::wording::{unknown_with_suggestions, unknown_word};

/// Deserializes a tree of values.
pub(super) fn read<T: DeserializeOwned>(tree: Value) -> Result<T, Mistake> {
    serde_path_to_error::deserialize(Tree(tree)).map_err(|error| {
        let path = error.path().clone();
        Mistake { path, origin: None, problem: error.into_inner() }
    })
}

/// An error in the configuration: the key, its source and the problem.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The path of the wrong key in the configuration. The path of the mistake has no segments if the whole configuration is
    /// wrong.
    pub(super) path: Path,
    /// The text that names the source of the value, as in `set by DROVER__LOG__FORMAT`.
    pub(super) origin: Option<String>,
    pub(super) problem: Problem,
}

/// A problem with a value.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) kind: ProblemKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProblemKind {
    UnknownKey,
    MissingKey,
    /// The value in the configuration is not of the type of its key.
    Type,
    Value,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, text) = (&self.path, &self.problem.text);
        match text.strip_prefix('.') {
            _ if path.iter().len() == 0 => f.write_str(text)?,
            // An error text that begins with a dot continues the path of the key, so no colon separates the path and
            // the text.
            Some(rest) => write!(f, "{path}.{rest}")?,
            None => write!(f, "{path}: {text}")?,
        }
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

/// Reads one part of a table, for a deserializer that reads a table in parts because one key of the table decides which other
/// keys are allowed. The error names the place of a mistake in the configuration by `path`, which is the key of the part in the
/// table, and by the path within the part of the table. `path` is empty if the part of the table consists of all remaining keys
/// of the table.
///
/// # Errors
///
/// Returns an error if a key is unknown or missing, or if a value is not of its type.
pub fn read_part_of_table<T: DeserializeOwned, E: de::Error>(path: &str, part: Value) -> Result<T, E> {
    read(part).map_err(|mistake: Mistake| {
        let is_rest_of_table = path.is_empty();
        let is_whole_value = mistake.path.iter().len() == 0;
        E::custom(match (is_rest_of_table, is_whole_value) {
            (true, true) => mistake.problem.text,
            (true, false) => format!(".{mistake}"),
            (false, _) => format!(".{path}: {mistake}"),
        })
    })
}

struct Tree(Value);

impl<'de> Deserializer<'de> for Tree {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => visitor.visit_i64(number),
                (None, Some(number)) => visitor.visit_u64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Self))),
            Value::Object(table) => {
                visitor.visit_map(MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Self(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        // A list is refused first, because a derived visitor accepts a list of the fields' values as a table.
        if self.0.is_array() {
            return Err(de::Error::invalid_type(Unexpected::Seq, &"a table"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(StringDeserializer::new(word)),
            _ => Err(de::Error::custom(format!("expected one of {}", words.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl de::IntoDeserializer<'_, Problem> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { text: text.to_string(), kind: ProblemKind::Value }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let text = format!("is {}, expected {}", kind_of_value(&found), expected_type_in_plain_words(expected));
        Self { text, kind: ProblemKind::Type }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", expected_type_in_plain_words(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", expected_type_in_plain_words(expected)))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(unknown_word(word, known.iter().copied()))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let text = format!("\"{key}\" is {}", unknown_with_suggestions(key, known.iter().copied()));
        Self { text, kind: ProblemKind::UnknownKey }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { text: format!("the key {key} is missing; add it"), kind: ProblemKind::MissingKey }
    }
}

/// Returns the kind of a value, without the value itself.
fn kind_of_value(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(true) => "true",
        Unexpected::Bool(false) => "false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        // A whole number that exceeds 64 bits is parsed as a float.
        Unexpected::Float(number) if number.abs() >= 1e18 => "a number that is too large",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        Unexpected::Unit | Unexpected::Option => "null",
        _ => "a text",
    }
}

/// Describes the expected value without naming Rust types.
fn expected_type_in_plain_words(expected: &dyn Expected) -> String {
    let expected_text = expected.to_string();
    let words = match expected_text.as_str() {
        "a string" | "a borrowed string" => "a text",
        "path string" => "a path, as a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "an object" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u32" => "a whole number, 1 or more",
        other if other.starts_with("struct ") => "a table",
        _ => return expected_text,
    };
    words.into()
}

//! Tells what is wrong with a key of the configuration, in words that do not depend on any library and show no value: the value
//! may be a secret.

use std::fmt;

use serde::de::{self, DeserializeOwned, Expected, Unexpected};

use super::tree::Tree;
use crate::nearest::{no_such, unknown};

/// A value can't be what its key expects.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Mistake {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    UnknownKey,
    MissingKey,
    Value,
}

/// A mistake, and the path of keys that it was found at.
#[derive(Debug)]
pub(super) struct Found {
    /// Empty for the whole.
    pub(super) path: String,
    /// Where the value was set.
    origin: Option<String>,
    mistake: Mistake,
}

impl Tree {
    /// Reads a value of a type from the tree.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Found> {
        serde_path_to_error::deserialize(self.clone()).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let origin = self.origin_of(error.path()).map(str::to_owned);
            Found { path, origin, mistake: error.into_inner() }
        })
    }
}

impl Found {
    pub(super) fn is_unknown_key(&self) -> bool {
        self.mistake.kind == Kind::UnknownKey
    }

    pub(super) fn is_missing_key(&self) -> bool {
        self.mistake.kind == Kind::MissingKey
    }

    /// As a part of a mistake that is found further up, whose path goes before this one's.
    pub(super) fn within<E: de::Error>(&self) -> E {
        E::custom(if self.path.is_empty() { self.mistake.text.clone() } else { format!(".{self}") })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, text) = (&self.path, &self.mistake.text);
        match text.strip_prefix('.') {
            _ if path.is_empty() => f.write_str(text)?,
            // The rest of the path stands in the text.
            Some(rest) => write!(f, "{path}.{rest}")?,
            None => write!(f, "{path}: {text}")?,
        }
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

impl Mistake {
    fn new(kind: Kind, text: String) -> Self {
        Self { text, kind }
    }
}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Kind::Value, text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("is {}, expected {}", kind(&found), words(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", words(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", words(expected)))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(no_such(word, known.iter().copied()))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey, format!("\"{key}\" is {}", unknown(key, known.iter().copied())))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::MissingKey, format!("the key {key} is missing; write it too"))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key {key} stands there twice; remove one"))
    }
}

/// The kind of a value, but not its content.
fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(true) => "true",
        Unexpected::Bool(false) => "false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        Unexpected::Unit | Unexpected::Option => "null",
        _ => "a text",
    }
}

/// The expectation, without the names of types.
fn words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "a string" | "a borrowed string" => "a text",
        "path string" => "a path, as a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u32" => "a whole number, 1 or more",
        other if other.starts_with("struct ") => "a table",
        _ => return text,
    };
    words.into()
}

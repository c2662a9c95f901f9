//! Deserializes JSON bodies. A body is parsed once; an invalid body is parsed again to find the path of the mistake.

use std::fmt;

use queue_core::JsonObject;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Visitor},
};
use serde_json::{Error, Map, Value, value::RawValue};
use serde_path_to_error::{Path, Segment};
use service::{
    Code, FieldError, Problem,
    wording::{self, shortened},
};

use crate::errors::{self, Result};

/// The byte order mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A request body that is parsed from JSON.
pub(crate) trait Body: DeserializeOwned {
    /// The error code for a body with an invalid field.
    const INVALID_BODY_CODE: Code;

    /// Checks that the fields of the body do not contradict each other.
    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}

/// Parses the JSON object of a request body.
pub(crate) fn parse_body<T: Body>(body: &[u8]) -> Result<T> {
    parse(body, |error| errors::not_json(wording::document_mistake(error)))
}

/// Parses one line of NDJSON. The caller of `parse_line` adds the number of the line to an error.
pub(crate) fn parse_line<T: Body>(line: &[u8]) -> Result<T> {
    parse(line, |error| {
        errors::line_not_json(format_args!("{}, at column {}", wording::value_mistake(error), error.column()))
    })
}

/// Parses a body that may be any JSON object, and returns its members. A duplicate member is refused.
pub(crate) fn parse_members(body: &[u8]) -> Result<Map<String, Value>> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let Members(members) =
        serde_json::from_slice(body).map_err(|error| errors::not_json(wording::document_mistake(&error)))?;
    Ok(members)
}

fn parse<T: Body>(json: &[u8], not_json: impl Fn(&Error) -> Problem) -> Result<T> {
    let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let parse_result = match serde_json::from_slice::<JsonObject<T>>(json) {
        Ok(JsonObject(parse_result)) => parse_result.check().map(|()| parse_result),
        Err(error) => Err(find_mistake::<T>(json).ok_or_else(|| not_json(&error))?),
    };
    parse_result.map_err(|error| errors::invalid_field(T::INVALID_BODY_CODE, error))
}

/// Returns the mistake in a field of a body; `None` if the body is not valid JSON, or if the mistake is not in a field.
#[cold]
fn find_mistake<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Option<FieldError> {
    serde_json::from_slice::<&RawValue>(json).ok()?;
    let error =
        serde_path_to_error::deserialize::<_, JsonObject<T>>(&mut serde_json::Deserializer::from_slice(json)).err()?;
    let is_at_root = error.path().iter().next().is_none();
    let text = error.inner().to_string();
    let is_about_field = ["missing field", "unknown field"].iter().any(|beginning| text.starts_with(beginning));
    (!is_at_root || is_about_field).then(|| field_error(error.path(), error.inner()))
}

/// Deserializes a JSON object that is a part of a body and was kept as raw JSON.
///
/// # Errors
///
/// Returns a text that [`field_error`] parses: the path of the mistake within the part of the body, and the mistake.
pub(crate) fn parse_part<'de, T: Deserialize<'de>>(json: &'de RawValue) -> Result<T, String> {
    let parse_result =
        serde_path_to_error::deserialize::<_, JsonObject<T>>(&mut serde_json::Deserializer::from_str(json.get()));
    parse_result.map(|JsonObject(parse_result)| parse_result).map_err(|error| {
        let FieldError { pointer, detail } = field_error(error.path(), error.inner());
        format!("at {pointer}: {detail}")
    })
}

fn field_error(path: &Path, error: &Error) -> FieldError {
    let mut pointer = json_pointer(path);
    let (member, detail) = wording::member_mistake(error);
    if let Some(member) = member {
        pointer = format!("{pointer}/{}", pointer_segment(&member));
    }
    // The error text of `parse_part` begins with the path of the mistake within the part of the body. The JSON pointer of such
    // a mistake is the pointer of the part, followed by the path within the part.
    match detail.strip_prefix("at ").and_then(|rest| rest.split_once(": ")) {
        Some((within, detail)) if within.is_empty() || within.starts_with('/') => {
            FieldError { pointer: pointer + within, detail: detail.to_owned() }
        }
        _ => FieldError { pointer, detail },
    }
}

fn json_pointer(path: &Path) -> String {
    let segments = path.iter().map(|element| match element {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", pointer_segment(key)),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    });
    segments.collect()
}

/// Returns a name as a segment of a JSON pointer. A long name is cut, because error texts repeat it.
fn pointer_segment(name: &str) -> String {
    shortened(name).replace('~', "~0").replace('/', "~1")
}

/// The members of any JSON object. A duplicate member is refused.
#[derive(Debug)]
pub(crate) struct Members(pub(crate) Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(de::Error::custom(format_args!("the field {name:?} is given twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Deserializes a list whose elements must be JSON objects.
pub(crate) fn deserialize_objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<JsonObject<T>>::deserialize(deserializer)?.into_iter().map(|JsonObject(value)| value).collect())
}

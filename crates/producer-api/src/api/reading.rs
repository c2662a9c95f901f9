//! Bodies of JSON as types. A body is read at once; only one that can't be read is read again, to find out where.

use queue_core::JsonObject;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Error, Map, Value, value::RawValue};
use serde_path_to_error::{Path, Segment};
use service::{
    Code, FieldError, Problem,
    wording::{self, cut},
};

use super::members::Members;
use crate::refusal;

/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a body may be.
pub(crate) trait Body: DeserializeOwned {
    /// The code of the refusal of one that can't be taken.
    const INVALID: Code;

    /// Fields of which not all may be given.
    const NOT_BOTH: &[(&str, Given)] = &[];

    /// Checks what several fields say together.
    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}

/// How a field is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    /// As anything but null.
    Anything,
    /// As false.
    False,
}

/// Reads a body.
pub(crate) fn body<T: Body>(body: &[u8]) -> Result<T, Problem> {
    read(body, |error| refusal::not_json(wording::of_document(error)))
}

/// Reads one line of many, of which the refusal tells the number.
pub(crate) fn line<T: Body>(line: &[u8]) -> Result<T, Problem> {
    read(line, |error| {
        refusal::line_not_json(format_args!("{}, at column {}", wording::of_value(error), error.column()))
    })
}

/// The members of a body that is any object; one that stands twice is a mistake.
pub(crate) fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let Members(members) =
        serde_json::from_slice(body).map_err(|error| refusal::not_json(wording::of_document(&error)))?;
    Ok(members)
}

fn read<T: Body>(json: &[u8], not_json: impl Fn(&Error) -> Problem) -> Result<T, Problem> {
    let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let read = match serde_json::from_slice::<JsonObject<T>>(json) {
        Ok(JsonObject(read)) => read.check().map(|()| read),
        Err(error) => Err(located::<T>(json).ok_or_else(|| not_json(&error))?),
    };
    read.map_err(|error| refusal::invalid_field(T::INVALID, error))
}

/// The mistake in what is JSON, and an object of fields that stand once; `None` for anything else.
#[cold]
fn located<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Option<FieldError> {
    serde_json::from_slice::<&RawValue>(json).ok()?;
    let error =
        serde_path_to_error::deserialize::<_, JsonObject<T>>(&mut serde_json::Deserializer::from_slice(json)).err()?;
    let at_root = error.path().iter().next().is_none();
    let text = error.inner().to_string();
    let is_field = ["missing field", "unknown field"].iter().any(|beginning| text.starts_with(beginning));
    (!at_root || is_field).then(|| field_error(error.path(), error.inner()))
}

/// Reads an object that is a part of a body and was kept as it came.
///
/// # Errors
///
/// What is wrong with it, as [`field_error`] understands it: with its place within the part.
pub(crate) fn part<'de, T: Deserialize<'de>>(json: &'de RawValue) -> Result<T, String> {
    let read =
        serde_path_to_error::deserialize::<_, JsonObject<T>>(&mut serde_json::Deserializer::from_str(json.get()));
    read.map(|JsonObject(read)| read).map_err(|error| {
        let FieldError { pointer, detail } = field_error(error.path(), error.inner());
        format!("at {pointer}: {detail}")
    })
}

fn field_error(path: &Path, error: &Error) -> FieldError {
    let mut pointer = pointer(path);
    let (member, detail) = wording::of_member(error);
    if let Some(member) = member {
        pointer = format!("{pointer}/{}", segment(&member));
    }
    // The place within a part.
    match detail.strip_prefix("at ").and_then(|rest| rest.split_once(": ")) {
        Some((within, detail)) if within.is_empty() || within.starts_with('/') => {
            FieldError { pointer: pointer + within, detail: detail.to_owned() }
        }
        _ => FieldError { pointer, detail },
    }
}

fn pointer(path: &Path) -> String {
    let segments = path.iter().map(|part| match part {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", segment(key)),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    });
    segments.collect()
}

/// A name as a pointer has it, and short enough to be repeated.
fn segment(name: &str) -> String {
    cut(name).replace('~', "~0").replace('/', "~1")
}

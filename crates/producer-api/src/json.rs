//! Objects of JSON, taken apart without copying: their fields in their order, each value as it came.

use std::{borrow::Cow, fmt};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use service::{FieldError, Problem, unknown, wording};

use crate::{fields::field_error, refusal};

/// No object that is asked for has so many fields. It bounds what is said of unknown ones, and the search for doubles.
const MAX_FIELDS: usize = 64;

/// An object: its fields in their order.
pub(crate) struct Object<'b>(pub(crate) Vec<(Cow<'b, str>, &'b RawValue)>);

impl<'de: 'b, 'b> Deserialize<'de> for Object<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> de::Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(4);
                while let Some(Key(name)) = map.next_key()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(de::Error::custom(format_args!("an object of more than {MAX_FIELDS} fields")));
                    }
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format_args!("the field \"{}\" stands twice", cut(&name))));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field's name, borrowed where it has no escapes.
struct Key<'b>(Cow<'b, str>);

impl<'de: 'b, 'b> Deserialize<'de> for Key<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> de::Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// An answer of JSON that is about so many bytes long.
pub(crate) fn answer(value: &impl Serialize, about: usize) -> Result<Response, Problem> {
    let mut text = Vec::with_capacity(about);
    serde_json::to_writer(&mut text, value).map_err(|_| refusal::internal())?;
    let mut answer = Response::new(Body::from(text));
    // For all that will be there, so that they are not put in anew half-way.
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// The headers that an answer usually has in the end.
const HEADERS: usize = 10;

/// A text that came from outside, short enough to be repeated in an answer.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The object that a body is.
pub(crate) fn object(body: &[u8]) -> Result<Object<'_>, Problem> {
    parse(body).map_err(|error| refusal::not_json(wording::of_document(&error)))
}

/// The object that one of many lines is.
pub(crate) fn object_of_line(line: &[u8]) -> Result<Object<'_>, Problem> {
    // The refusal tells the number of the line.
    parse(line).map_err(|error| {
        refusal::line_not_json(format_args!("{}, at column {}", wording::of_value(&error), error.column()))
    })
}

/// The list that is the one field of an object.
pub(crate) fn only_list<'b>(object: &Object<'b>, name: &'static str) -> Result<Vec<&'b RawValue>, FieldError> {
    if let Some((other, _)) = object.0.iter().find(|(known, _)| known != name) {
        return Err(field_error("", other, unknown(other, [name])));
    }
    match object.0.first() {
        Some((_, value)) if !is_absent(value) => {
            serde_json::from_str(value.get()).map_err(|_| field_error("", name, "must be a list".into()))
        }
        _ => Err(field_error("", name, "required: a list".into())),
    }
}

/// Reads a body; a byte order mark before it is passed over.
pub(crate) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
}

/// Whether an optional field counts as absent: it is null.
pub(crate) fn is_absent(value: &RawValue) -> bool {
    value.get() == "null"
}

/// A text in which each half of a character (a `\u` escape without its other half) is replaced by U+FFFD.
pub(crate) fn lossy_text(value: &RawValue) -> Result<String, serde_json::Error> {
    struct Bytes;
    impl de::Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        // As bytes the parser hands over halves too, which a text can't have.
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let bytes = serde_json::Deserializer::from_str(value.get()).deserialize_bytes(Bytes)?;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // A half has three bytes, of which each is a chunk; the first one alone does not continue another.
        if chunk.invalid().first().is_some_and(|byte| byte & 0b1100_0000 != 0b1000_0000) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_characters_are_replaced_one_by_one() {
        let text = |json: &str| lossy_text(serde_json::from_str(json).unwrap());
        for (json, expected) in [
            (r#""plain \n \ud83d\ude00 é""#, "plain \n 😀 é"),
            (r#""bad \ud83d""#, "bad \u{fffd}"),
            (r#""\ude00\ud83d!""#, "\u{fffd}\u{fffd}!"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        ] {
            assert_eq!(text(json).unwrap(), expected);
        }
        for other in ["5", "[1]", "{}", "true"] {
            assert!(text(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(object(b"\xef\xbb\xbf {\"a\":1}").unwrap().0.len(), 1);
        assert!(object(b"\xff\xfe{\0}\0").is_err(), "that is UTF-16");
    }
}

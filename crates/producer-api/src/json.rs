//! Objects of JSON, taken apart without copying: their fields in their order, each value as it came.

use std::{borrow::Cow, fmt};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use service::Problem;

use crate::refusal;

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

/// What the parser says of a value that is wrong; the position within the value of a field says nothing.
pub(crate) fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) if error.is_data() => cut(what).into_owned(),
        _ => text,
    }
}

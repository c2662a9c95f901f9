//! Reads JSON strictly: a struct is read only from an object, an enum of words only from a text, and JSON that is kept unparsed has a
//! maximum size.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use strum::VariantNames;
use utoipa::{
    PartialSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, Type},
};

/// A struct that is read only from a JSON object; code derived by serde would also accept a list of the members' values.
#[derive(Debug)]
pub struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Reads an enum whose variants are words. The error of an invalid value lists the words that the enum accepts; code that serde derives
/// would report a value that is not a text as invalid JSON.
///
/// # Errors
///
/// The value is not one of the words that the enum accepts.
pub fn read_word<'de, D: Deserializer<'de>, W: FromStr + VariantNames>(deserializer: D) -> Result<W, D::Error> {
    struct WordVisitor<W>(PhantomData<W>);
    impl<W: FromStr + VariantNames> Visitor<'_> for WordVisitor<W> {
        type Value = W;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let one_of = if W::VARIANTS.len() > 1 { "one of " } else { "" };
            write!(f, "{one_of}{}", W::VARIANTS.join(", "))
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<W, E> {
            word.parse().map_err(|_| E::unknown_variant(word, W::VARIANTS))
        }
    }
    deserializer.deserialize_str(WordVisitor(PhantomData))
}

/// The schema of an optional object, whose members are optional too; a member that is null counts as absent.
pub(crate) fn nullable_members<T: PartialSchema>() -> Schema {
    let null_schema = || ObjectBuilder::new().schema_type(Type::Null);
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required.clear();
        for member in object.properties.values_mut() {
            *member = OneOfBuilder::new().item(null_schema()).item(member.clone()).into();
        }
    }
    OneOfBuilder::new().item(null_schema()).item(schema).into()
}

/// Reads a field; a null counts as absent, and gives the default.
///
/// # Errors
///
/// The field has an invalid value.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads an optional field in which null differs from absent: null becomes `Some(None)`.
///
/// # Errors
///
/// The field has an invalid value.
pub(crate) fn null_as_some_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads an optional field with any JSON of at most `MAX_JSON_BYTES` bytes.
///
/// # Errors
///
/// The JSON has more than `MAX_JSON_BYTES` bytes.
pub(crate) fn bounded_json<'de, const MAX_JSON_BYTES: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    let optional_json: Option<Box<RawValue>> = Option::deserialize(deserializer)?;
    if optional_json.as_ref().is_some_and(|optional_json| optional_json.get().len() > MAX_JSON_BYTES) {
        return Err(D::Error::custom(format_args!("must be at most {MAX_JSON_BYTES} bytes of JSON")));
    }
    Ok(optional_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        inner: Option<Box<JsonObject<Sample>>>,
        #[serde(default, deserialize_with = "bounded_json::<4, _>")]
        data: Option<Box<RawValue>>,
        #[serde(default, deserialize_with = "or_default")]
        number: u8,
    }

    #[test]
    fn json_list_instead_of_an_object_is_refused_at_any_depth() {
        let parse_sample =
            |json: &str| serde_json::from_str::<JsonObject<Sample>>(json).map(|JsonObject(sample)| sample);
        let sample = parse_sample(r#"{"inner":{"data":"ab"},"data":null,"number":null}"#).unwrap();
        assert_eq!((sample.inner.unwrap().0.data.unwrap().get(), sample.number), ("\"ab\"", 0));
        assert!(sample.data.is_none());
        for json in ["[]", "[null]", r#"{"inner":[]}"#, r#"{"inner":{"inner":[]}}"#] {
            assert!(parse_sample(json).unwrap_err().to_string().contains("expected an object"), "{json}");
        }
        assert!(parse_sample(r#"{"data":"abc"}"#).unwrap_err().to_string().contains("at most 4 bytes"));
    }
}

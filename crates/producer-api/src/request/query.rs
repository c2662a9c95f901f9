//! Deserializes query parameters (`?limit=5`). Each parameter may occur once.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, value::MapDeserializer},
};
use service::{Problem, wording};

use crate::errors::{self, Result};

/// The query parameters of a request. A request with an unknown parameter is refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// The query of an endpoint without query parameters: any parameter is refused.
pub(crate) type NoQuery = Query<NoParameters>;

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T> {
    let decoded_pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode_text(name)?, decode_text(value)?))
    });
    let decoded_pairs = decoded_pairs.collect::<Result<Vec<_>>>()?;
    let deserializer = MapDeserializer::<_, serde::de::value::Error>::new(decoded_pairs.into_iter());
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let name = error.path().to_string();
        let text = error.into_inner().to_string();
        errors::invalid_query(match wording::unknown_field(&text) {
            Some((_, known)) if known.is_empty() => "this endpoint takes no query parameters".into(),
            Some((word, known)) => {
                format!(
                    "the query parameter \"{word}\" is {}",
                    wording::unknown_with_suggestions(word, known.iter().copied())
                )
            }
            None if text.starts_with("duplicate field") => {
                let name = text.split('`').nth(1).unwrap_or_default();
                format!("the query parameter {name} is given twice; give it once")
            }
            None if text.starts_with("must ") => format!("{name} {text}"),
            None => format!("{name}: {text}"),
        })
    })
}

fn decode_text(text: &str) -> Result<String> {
    let text_with_spaces = text.replace('+', " ");
    let decoded_text = percent_decode_str(&text_with_spaces).decode_utf8().map(Cow::into_owned);
    decoded_text.map_err(|_| errors::invalid_query("percent-encoded bytes in the query must be UTF-8"))
}

/// Deserializes a query parameter by parsing its text with `FromStr`.
pub(crate) fn parse_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use queue_core::State;

    use super::*;
    use crate::api::Limit;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SampleQuery {
        #[serde(default, deserialize_with = "parse_text")]
        state: Option<State>,
        #[serde(default, deserialize_with = "parse_text")]
        limit: Option<Limit>,
    }

    #[test]
    fn query_parameter_is_parsed_or_refused_with_its_name() {
        let sample: SampleQuery = parse_query("limit=5&&state=fail%65d").unwrap();
        assert_eq!((sample.limit.as_deref().copied(), sample.state), (Some(5), Some(State::Failed)));
        assert!(parse_query::<SampleQuery>("").unwrap().limit.is_none());
        for (query, expected) in [
            ("limit=0", "limit must be a whole number from 1 to 1000"),
            ("limit=%2B5", "limit must be a whole number"),
            ("state=dead", "state is"),
            ("state", "state is"),
            ("limt=1", "the query parameter \"limt\" is unknown: did you mean \"limit\"?"),
            ("limit=1&limit=1", "the query parameter limit is given twice; give it once"),
            ("state=%ff", "UTF-8"),
        ] {
            let problem = parse_query::<SampleQuery>(query).unwrap_err();
            assert!(problem.detail.contains(expected), "{query}: {}", problem.detail);
        }
        assert!(parse_query::<NoParameters>("x=1").unwrap_err().detail.contains("no query parameters"));
    }
}

//! The header `Idempotency-Key`: the same request, sent again, stores nothing more.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use queue_core::{Enqueued, IdempotencyKey, NewMessage, Queue};
use service::Problem;
use sha2::{Digest, Sha256};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use crate::refusal;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key that came with a request, if any.
pub(crate) struct Key(pub(crate) Option<IdempotencyKey>);

/// What a request asks for; the same body asks for different things on different paths.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Message,
    Batch,
}

impl IntoParams for Key {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let pattern = r#"^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$"#;
        let description = "A key drawn for this request: sent again with it, the same request stores nothing more. 1 to 255 visible \
                           ASCII characters, bare or in quotes; not with NDJSON";
        vec![
            ParameterBuilder::new()
                .name("Idempotency-Key")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(description))
                // Without an example: the page would send it with every request that is tried.
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))))
                .build(),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let key = match (values.next(), values.next()) {
            (None, _) => return Ok(Self(None)),
            (Some(value), None) => value.to_str().ok().and_then(bare),
            (Some(_), Some(_)) => return Err(refusal::invalid_idempotency_key("the header stands twice")),
        };
        let key = key.ok_or_else(|| refusal::invalid_idempotency_key("it is not a text in quotes, nor a bare one"))?;
        key.parse().map(|key| Self(Some(key))).map_err(refusal::invalid_idempotency_key)
    }
}

impl Key {
    /// Stores messages; with a key, only if the same request has not stored them before.
    pub(crate) async fn enqueue(
        self,
        queue: &Queue,
        messages: Vec<NewMessage>,
        kind: Kind,
        body: &[u8],
    ) -> Result<Vec<Enqueued>, Problem> {
        let enqueued = match self.0 {
            None => queue.enqueue(messages).await,
            Some(key) => {
                let fingerprint = fingerprint(kind, body);
                queue.enqueue_once(messages, &key, &fingerprint).await
            }
        };
        enqueued.map_err(refusal::from_enqueue)
    }
}

/// The key as it was drawn: `"abc"`, a string as structured headers (RFC 9651) have it, is the same as `abc`.
fn bare(value: &str) -> Option<String> {
    let value = value.trim();
    let Some(rest) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let mut key = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(key),
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            char => key.push(char),
        }
    }
}

fn fingerprint(kind: Kind, body: &[u8]) -> String {
    let kind: &[u8] = match kind {
        Kind::Message => b"message\n",
        Kind::Batch => b"batch\n",
    };
    STANDARD_NO_PAD.encode(Sha256::new().chain_update(kind).chain_update(body).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_bare_and_in_quotes() {
        for (value, key) in [
            ("abc", Some("abc")),
            (" abc ", Some("abc")),
            (r#""abc""#, Some("abc")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (r#""abc"#, None),
            (r#""abc";p=1"#, None),
            (r#""a\bc""#, None),
            (r#"""#, None),
        ] {
            assert_eq!(bare(value).as_deref(), key, "{value}");
        }
    }

    #[test]
    fn a_fingerprint_tells_requests_apart() {
        assert_eq!(fingerprint(Kind::Message, b"{}"), fingerprint(Kind::Message, b"{}"));
        assert_ne!(fingerprint(Kind::Message, b"{}"), fingerprint(Kind::Batch, b"{}"));
        assert_ne!(fingerprint(Kind::Message, b"{}"), fingerprint(Kind::Message, b"{} "));
    }
}

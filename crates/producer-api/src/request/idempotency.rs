//! The header `Idempotency-Key`: a request that is sent again with the same key stores nothing more.

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
    openapi::path::{Parameter, ParameterIn},
};

use super::header;
use crate::errors::{self, Result};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(crate) struct IdempotencyHeader(pub(crate) Option<IdempotencyKey>);

impl IntoParams for IdempotencyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let pattern = r#"^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$"#;
        let description = "A random key for this request. If the same request is sent again with the same key, it stores nothing \
                           more. 1 to 255 visible ASCII characters, bare or in quotes; not with NDJSON";
        header::optional_header("Idempotency-Key", description, pattern)
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        if !parts.headers.contains_key(IDEMPOTENCY_KEY) {
            return Ok(Self(None));
        }
        let value = header::single_value(&parts.headers, &IDEMPOTENCY_KEY)
            .ok_or_else(|| errors::invalid_idempotency_key("the header is given twice"))?;
        let key = value.to_str().ok().and_then(remove_quotes);
        let key =
            key.ok_or_else(|| errors::invalid_idempotency_key("it is neither a text in quotes nor a bare text"))?;
        key.parse().map(|key| Self(Some(key))).map_err(errors::invalid_idempotency_key)
    }
}

impl IdempotencyHeader {
    /// Stores messages. If the header has a key, messages are stored only if the same request has not stored them before.
    /// `kind` (`message` or `batch`) distinguishes requests with the same body.
    pub(crate) async fn enqueue(
        self,
        queue: &Queue,
        messages: Vec<NewMessage>,
        kind: &str,
        body: &[u8],
    ) -> Result<Vec<Enqueued>> {
        let enqueue_result = match self.0 {
            None => queue.enqueue(messages).await,
            Some(key) => {
                let fingerprint = fingerprint(kind, body);
                queue.enqueue_once(messages, &key, &fingerprint).await
            }
        };
        enqueue_result.map_err(errors::enqueue_error)
    }
}

/// Returns an idempotency key without quotes, or `None` if the quotes are malformed. The structured-field string `"abc"` (RFC
/// 9651) is the same key as `abc`.
fn remove_quotes(value: &str) -> Option<String> {
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

fn fingerprint(kind: &str, body: &[u8]) -> String {
    STANDARD_NO_PAD.encode(Sha256::new().chain_update(kind).chain_update(b"\n").chain_update(body).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_key_is_read_bare_and_in_quotes() {
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
            assert_eq!(remove_quotes(value).as_deref(), key, "{value}");
        }
    }

    #[test]
    fn fingerprints_of_different_requests_with_one_idempotency_key_differ() {
        assert_eq!(fingerprint("message", b"{}"), fingerprint("message", b"{}"));
        assert_ne!(fingerprint("message", b"{}"), fingerprint("batch", b"{}"));
        assert_ne!(fingerprint("message", b"{}"), fingerprint("message", b"{} "));
    }
}

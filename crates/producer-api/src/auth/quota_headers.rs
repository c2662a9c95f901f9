use axum::http::{HeaderMap, HeaderName, HeaderValue};
use queue_core::{Millis, RateLimit};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whole seconds, never too few.
pub(super) fn secs(time: Millis) -> u32 {
    u32::try_from(time.get().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Tells a key's limit and how much of it is left, as draft-ietf-httpapi-ratelimit-headers (10) has it.
pub(super) fn tell(headers: &mut HeaderMap, limit: RateLimit, remaining: u32, more_after: Millis) {
    let policy = format!("\"key\";q={};w={}", limit.max, secs(*limit.duration));
    let left = format!("\"key\";r={};t={}", remaining, secs(more_after));
    for (name, value) in [(POLICY, policy), (LIMIT, left)] {
        headers.extend(HeaderValue::from_str(&value).ok().map(|value| (name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_whole_seconds_that_are_never_too_few() {
        let mut headers = HeaderMap::new();
        let limit = serde_json::from_str(r#"{"max":100,"duration":"1m"}"#).unwrap();
        tell(&mut headers, limit, 99, Millis::new(2_001));
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=100;w=60");
        assert_eq!(headers["ratelimit"], "\"key\";r=99;t=3");
    }
}

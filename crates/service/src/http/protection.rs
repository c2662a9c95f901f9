//! The headers of every answer that protect browsers and the people who use them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// How answers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
}

/// What every answer says to browsers, unless its route says otherwise: data, not a page; nobody's to keep or to frame.
const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

/// Over plain HTTP it would mean nothing, and a browser must ignore it there.
const A_YEAR_OF_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the headers that protect browsers and those who use them.
pub(super) fn protect(headers: &mut HeaderMap, transport: Transport) {
    headers.reserve(ALWAYS.len() + 1);
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if transport == Transport::Tls {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(A_YEAR_OF_TLS);
    }
}

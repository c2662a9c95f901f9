//! Requests that are not HTTP: hyper refuses them by itself, with an empty answer, before anything of ours is asked. What
//! it writes then is exchanged for a problem that says what was wrong.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::AsyncWrite;

use super::protection::{Transport, protect};
use crate::{Problem, REQUEST_ID, problem::new_request_id};

/// The answer that goes out in place of hyper's.
pub(super) struct Refusal {
    bytes: Vec<u8>,
    written: usize,
    /// As much as hyper wanted to write.
    replaces: usize,
}

impl Refusal {
    /// In place of what is about to be written, if that is a refusal of hyper's own: every answer of ours has the headers
    /// that protect browsers.
    pub(super) fn of(about_to_be_written: &[u8], transport: Transport) -> Option<Self> {
        let rest = about_to_be_written.strip_prefix(b"HTTP/1.1 4")?;
        let head = std::str::from_utf8(about_to_be_written).ok()?;
        if !head.ends_with("\r\n\r\n") || head.contains("x-content-type-options") {
            return None;
        }
        let [tens, ones] = rest.first_chunk()?;
        let status = StatusCode::from_bytes(&[b'4', *tens, *ones]).ok()?;
        let (bytes, replaces) = (render(problem(status), transport), about_to_be_written.len());
        Some(Self { bytes, written: 0, replaces })
    }

    /// Writes it; when all is written, it answers how much that stands for.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        while self.written < self.bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        Poll::Ready(Ok(self.replaces))
    }
}

/// The answer to a client that begins to speak HTTP/2, which is left without one by hyper.
pub(super) fn http2(transport: Transport) -> Vec<u8> {
    let detail = "this server speaks HTTP/1.1 and no HTTP/2; use HTTP/1.1, or put a proxy in front that speaks both";
    let problem = Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "unsupported_http_version", detail);
    render(problem, transport)
}

fn render(problem: Problem, transport: Transport) -> Vec<u8> {
    let (id, status) = (new_request_id(), problem.status());
    let body = serde_json::to_vec(&problem.with_request_id(&id)).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, Problem::CONTENT_TYPE);
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.extend(HeaderValue::from_str(&id).map(|id| (REQUEST_ID, id)));
    protect(&mut headers, transport);
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

fn problem(status: StatusCode) -> Problem {
    match status {
        StatusCode::BAD_REQUEST => {
            let detail = "what came is no request of HTTP/1.1, or one of its headers is not as RFC 9112 has it; mend it and \
                          connect anew";
            Problem::new(status, "malformed_request", detail)
        }
        // A path that is too long is told as headers that are: which of both hyper says depends on how the bytes come in.
        StatusCode::URI_TOO_LONG => Problem::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        other => Problem::of_status(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hyper_refuses_becomes_a_problem_and_nothing_else_does() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let refusal = Refusal::of(own, Transport::Plain).unwrap();
        assert_eq!(refusal.replaces, own.len());
        let text = String::from_utf8(refusal.bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        assert!(
            text.contains("\r\nconnection: close\r\n") && text.contains("\"code\":\"headers_too_large\""),
            "{text}"
        );
        for other in [
            "HTTP/1.1 404 Not Found\r\nx-content-type-options: nosniff\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert!(Refusal::of(other.as_bytes(), Transport::Plain).is_none(), "{other}");
        }
    }
}

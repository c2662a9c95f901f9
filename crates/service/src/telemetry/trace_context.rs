//! The trace context (W3C Trace Context) of requests and messages, which is read from their headers and written to their
//! headers.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The position in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) defines it: a trace id and the id of a
/// parent span. The headers of requests and of messages contain the position in a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// The name of the header that contains the position in a trace, in requests and in messages.
    pub const TRACEPARENT: &str = "traceparent";
    /// The name of the header that contains vendor-specific data of a trace.
    pub const TRACESTATE: &str = "tracestate";
    const TRACEPARENT_LENGTH: usize = 55;
    /// The maximum length of a `tracestate`. A longer `tracestate` is not passed on.
    const MAX_STATE_LENGTH: usize = 512;

    /// Parses the values of the headers `traceparent` and `tracestate`. Returns `None` if the values of the headers are
    /// invalid; then a new trace begins.
    pub fn read(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<Self> {
        // Drover itself checks that a `traceparent` of version 00 has 55 characters, because the OpenTelemetry library would
        // also accept invalid flags of one digit. Only a future version of `traceparent` may have another length.
        let traceparent =
            traceparent.filter(|value| value.len() == Self::TRACEPARENT_LENGTH || !value.starts_with("00-"))?;
        let headers = [(Self::TRACEPARENT, Some(traceparent)), (Self::TRACESTATE, tracestate)];
        let headers: HashMap<_, _> =
            headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span_context = context.span().span_context().clone();
        span_context.is_valid().then_some(Self(span_context))
    }

    /// Reads the context from the headers of a request.
    pub fn from_request(headers: &HeaderMap) -> Option<Self> {
        // The names are constants of the type `HeaderName`, because looking up a header by a text costs almost twice as much.
        const TRACEPARENT: HeaderName = HeaderName::from_static(TraceContext::TRACEPARENT);
        const TRACESTATE: HeaderName = HeaderName::from_static(TraceContext::TRACESTATE);
        let mut traceparents = headers.get_all(TRACEPARENT).iter();
        let (traceparent, None) = (traceparents.next()?, traceparents.next()) else { return None };
        let state_texts = headers.get_all(TRACESTATE).iter().map(|state| state.to_str());
        let tracestate_text = state_texts.collect::<Result<Vec<_>, _>>().ok().map(|state_texts| state_texts.join(","));
        Self::read(traceparent.to_str().ok(), tracestate_text.as_deref())
    }

    /// Returns the context of a span, if its trace is sampled.
    pub fn from_span(span: &Span) -> Option<Self> {
        let span_context = span.context().span().span_context().clone();
        (span_context.is_valid() && span_context.is_sampled()).then_some(Self(span_context))
    }

    /// Returns the value of the header `traceparent`.
    pub fn traceparent(&self) -> String {
        let Self(span_context) = self;
        format!("00-{}-{}-{:02x}", span_context.trace_id(), span_context.span_id(), span_context.trace_flags().to_u8())
    }

    /// Returns the value of the header `tracestate`.
    pub fn tracestate(&self) -> Option<String> {
        let state = self.0.trace_state().header();
        (!state.is_empty() && state.len() <= Self::MAX_STATE_LENGTH).then_some(state)
    }

    /// Returns the id of the whole trace, in hexadecimal.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Makes a new span a child of this context's span.
    pub fn become_parent_of(&self, span: &Span) {
        // `set_parent` fails only if traces are not exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(self.0.clone()));
    }

    /// Makes a new span a child of this context's span, as [`become_parent_of`](Self::become_parent_of) does, and adds a link
    /// to this context's span, for trace viewers that show messages as links.
    pub fn become_linked_parent_of(&self, span: &Span) {
        self.become_parent_of(span);
        span.add_link(self.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn written_trace_headers_are_parsed_to_the_same_trace_context() {
        let context = TraceContext::read(Some(SAMPLE_TRACEPARENT), Some("vendor=a,other=b")).unwrap();
        assert_eq!(context.traceparent(), SAMPLE_TRACEPARENT);
        assert_eq!(context.tracestate().as_deref(), Some("vendor=a,other=b"));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let unsampled_traceparent = SAMPLE_TRACEPARENT.replace("-01", "-00");
        assert_eq!(
            TraceContext::read(Some(&unsampled_traceparent), None).unwrap().traceparent(),
            unsampled_traceparent
        );
    }

    #[test]
    fn invalid_trace_headers_begin_a_new_trace() {
        let zero_traceparent = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span_id = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        for wrong in [
            "",
            "00",
            "nonsense",
            zero_traceparent,
            zero_span_id,
            &SAMPLE_TRACEPARENT[..54],
            &SAMPLE_TRACEPARENT.replace("00-4", "ff-4"),
        ] {
            assert_eq!(TraceContext::read(Some(wrong), None), None, "{wrong}");
        }
        assert_eq!(TraceContext::read(None, Some("a=b")), None);
        let state =
            TraceContext::read(Some(SAMPLE_TRACEPARENT), Some(&format!("a={}", "b".repeat(600)))).unwrap().tracestate();
        assert_eq!(state, None, "too long to be passed on");
    }

    #[test]
    fn request_has_one_traceparent_and_any_number_of_tracestates() {
        let read_headers = |headers: &[(&'static str, &str)]| {
            let mut header_map = HeaderMap::new();
            for (name, value) in headers {
                header_map.append(*name, value.parse().unwrap());
            }
            TraceContext::from_request(&header_map)
        };
        let traceparent = ("traceparent", SAMPLE_TRACEPARENT);
        assert_eq!(read_headers(&[]), None);
        assert_eq!(read_headers(&[traceparent]).unwrap().traceparent(), SAMPLE_TRACEPARENT);
        assert_eq!(read_headers(&[traceparent, traceparent]), None);
        let joined_context = read_headers(&[traceparent, ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(joined_context.unwrap().tracestate().as_deref(), Some("a=1,b=2"));
    }
}

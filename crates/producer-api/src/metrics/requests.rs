//! Metrics of requests: their duration, by route, method and class of status. Clients can't create new label values: the label
//! `route` has a path template of the router, and the label `method` of an unknown method is `other`.

use std::{
    fmt,
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The upper bounds of the histogram's buckets, in seconds.
const BUCKET_BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[derive(Clone)]
pub(crate) struct RequestMetrics {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: Route,
    method: &'static str,
    status: &'static str,
}

/// The route of a request; `None` if no route matches. The route is stored as axum's `MatchedPath`, so that no request needs a
/// copy of the route's text.
#[derive(Debug, Clone)]
struct Route(Option<MatchedPath>);

impl Route {
    fn as_str(&self) -> &str {
        self.0.as_ref().map_or("unmatched", MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self { durations: Family::new_with_constructor(|| Histogram::new(BUCKET_BOUNDS)), in_flight: Gauge::default() }
    }
}

impl RequestMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests in progress, waiting ones included";
        registry.register("drover_http_requests_in_flight", help, self.in_flight.clone());
        let help = "Time from a request to the start of its response, waits included";
        registry.register("drover_http_request_duration_seconds", help, self.durations.clone());
    }

    pub(crate) fn begin_request(&self, request: &Request) -> InFlightRequest {
        self.in_flight.inc();
        InFlightRequest {
            metrics: self.clone(),
            route: Route(request.extensions().get().cloned()),
            method: method_label(request.method()),
            start: Instant::now(),
            status: STATUS_WITHOUT_RESPONSE,
        }
    }
}

/// A request in progress, whose duration is measured. Dropping an `InFlightRequest` ends the measurement: after the response,
/// or when the client has disconnected.
pub(crate) struct InFlightRequest {
    metrics: RequestMetrics,
    route: Route,
    method: &'static str,
    start: Instant,
    status: &'static str,
}

impl InFlightRequest {
    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = status_label(status);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let labels = Labels { route: Route(self.route.0.take()), method: self.method, status: self.status };
        self.metrics.durations.get_or_create(&labels).observe(self.elapsed().as_secs_f64());
        self.metrics.in_flight.dec();
    }
}

/// The label `status` of a request whose client disconnected before the response.
const STATUS_WITHOUT_RESPONSE: &str = "none";

fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn method_label(method: &Method) -> &'static str {
    const KNOWN_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN_METHODS.into_iter().find(|known| method == known).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn unknown_method_and_disconnected_client_have_labels() {
        let metrics = RequestMetrics::default();
        let request = Request::builder().method("MADEUP").body(Body::empty()).unwrap();
        drop(metrics.begin_request(&request));
        let (mut registry, mut text) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        let expected_series = r#"_count{route="unmatched",method="other",status="none"} 1"#;
        assert!(text.contains(expected_series), "{text}");
        assert_eq!(metrics.in_flight.get(), 0);
    }
}

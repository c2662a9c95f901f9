//! Tests of traces: a message has the trace context of its request, and both services export their spans.

use std::sync::{Arc, Mutex};

use drover_tests::eventually;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::System;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN_ID: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE_ID}-{CALLER_SPAN_ID}-01")
}

/// A collector for OTLP over HTTP that keeps the received spans.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

impl Collector {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collector.clone().serve(stream));
            }
        });
        format!("http://{address}")
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut received_bytes = Vec::new();
        loop {
            let head_end = loop {
                if let Some(end) = received_bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut received_bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let request_head = String::from_utf8(received_bytes[..head_end].to_vec()).unwrap().to_ascii_lowercase();
            assert!(request_head.starts_with("post /v1/traces "), "{request_head}");
            let length: usize =
                request_head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            while received_bytes.len() < head_end + length {
                assert!(stream.read_buf(&mut received_bytes).await.unwrap() > 0);
            }
            let request = ExportTraceServiceRequest::decode(&received_bytes[head_end..head_end + length]).unwrap();
            received_bytes.drain(..head_end + length);
            for resource in request.resource_spans {
                let service = attribute_value(&resource.resource.unwrap().attributes, "service.name");
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                self.spans.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }

    /// Returns the span of this name that a service sent for a trace.
    fn find_span(&self, service: &str, name: &str, trace: &str) -> Option<Span> {
        let spans = self.spans.lock().unwrap();
        let found_span = spans
            .iter()
            .find(|(sender, span)| sender == service && span.name == name && to_hex(&span.trace_id) == trace);
        found_span.map(|(_, span)| span.clone())
    }
}

fn attribute_value(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.clone());
    match value.and_then(|value| value.value) {
        Some(Attribute::StringValue(text)) => text,
        Some(Attribute::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

impl System {
    async fn post_traced(&self, path: &str, kind: &str, body: String, headers: &[(&str, &str)]) -> Value {
        let mut request = self.http.post(self.url(path)).header("content-type", kind).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn message_carries_the_trace_context_of_its_request() {
    let system = System::start("").await;
    let (messages, batch) = ("/v1/queues/q/messages", "/v1/queues/q/messages/batch");
    let context = traceparent();
    let traced = [("traceparent", context.as_str()), ("tracestate", "vendor=1")];
    let expected = json!({"traceparent": context, "tracestate": "vendor=1"});

    let one = system.post_traced(messages, "application/json", json!({"data": 1}).to_string(), &traced).await;
    assert_eq!(one["headers"], expected);

    let two = json!({"messages": [{"data": 1, "id": "b-1"}, {"data": 2, "id": "b-2", "headers": {"tenant": "a"}}]});
    system.post_traced(batch, "application/json", two.to_string(), &traced).await;
    system.post_traced(batch, "application/x-ndjson", "{\"data\":1,\"id\":\"l-1\"}\n".into(), &traced).await;
    for id in ["b-1", "l-1"] {
        assert_eq!(system.get(&format!("{messages}/{id}")).await["headers"], expected, "{id}");
    }
    let message_with_own_context = system.get(&format!("{messages}/b-2")).await;
    assert_eq!(
        (&message_with_own_context["headers"]["tenant"], &message_with_own_context["headers"]["traceparent"]),
        (&json!("a"), &json!(context))
    );

    // A `traceparent` in the message's own headers is kept.
    let own = json!({"data": 1, "headers": {"traceparent": "mine"}}).to_string();
    let own = system.post_traced(messages, "application/json", own, &traced).await;
    assert_eq!(own["headers"], json!({"traceparent": "mine"}));

    // A message is stored although its trace context is malformed or does not fit in its headers.
    let odd = [("traceparent", "00-nonsense"), ("tracestate", "a=b")];
    let odd = system.post_traced(messages, "application/json", json!({"data": 1}).to_string(), &odd).await;
    assert_eq!(odd["headers"], json!({}));
    let message_with_full_headers = json!({"data": 1, "headers": {"a": "x".repeat(4_095)}}).to_string();
    let full_message = system.post_traced(messages, "application/json", message_with_full_headers, &traced).await;
    assert_eq!(full_message["headers"].as_object().unwrap().len(), 1);
}

// The collector must answer while the test waits for the end of a process.
#[tokio::test(flavor = "multi_thread")]
async fn span_of_a_handler_is_linked_to_the_request_that_posted_its_message() {
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let config = format!(
        "[traces]\nendpoint = \"{endpoint}\"\n[[worker.routes]]\nqueue = \"q\"\n\
         handler = {{ type = \"exec\", command = [\"printenv\", \"TRACEPARENT\"] }}\n\
         [log]\nformat = \"json\"\n"
    );
    let mut system = System::start(&config).await;
    let mut worker = system.worker().await;
    let body = json!({"data": 1}).to_string();
    let context = traceparent();
    let posted_message =
        system.post_traced("/v1/queues/q/messages", "application/json", body, &[("traceparent", &context)]).await;
    let carried_context = posted_message["headers"]["traceparent"].as_str().unwrap();
    assert!(carried_context.starts_with(&format!("00-{TRACE_ID}-")) && carried_context != context, "{carried_context}");
    let finished_message =
        system.finished(&format!("/v1/queues/q/messages/{}", posted_message["id"].as_str().unwrap())).await;

    // Both services export the remaining spans when they stop.
    assert!(worker.terminate().success());
    assert!(system.api.terminate().success());

    let wait_for_span =
        |service: &str, name: &str| eventually("the span is sent", || collector.find_span(service, name, TRACE_ID));
    let request = wait_for_span("producer-api", "POST /v1/queues/{queue}/messages");
    assert_eq!(
        (to_hex(&request.parent_span_id).as_str(), request.kind),
        (CALLER_SPAN_ID, 2),
        "a span of a server whose parent is the caller"
    );
    assert_eq!(attribute_value(&request.attributes, "http.response.status_code"), "201");
    assert_eq!(carried_context, format!("00-{TRACE_ID}-{}-01", to_hex(&request.span_id)));
    let process_span = wait_for_span("consumer-worker", "process q");
    assert_eq!(
        (&process_span.parent_span_id, process_span.kind),
        (&request.span_id, 5),
        "a span of a consumer whose parent is the request"
    );
    assert_eq!((process_span.links.len(), &process_span.links[0].span_id), (1, &request.span_id));
    assert_eq!(
        attribute_value(&process_span.attributes, "messaging.message.id"),
        posted_message["id"].as_str().unwrap()
    );
    let result = finished_message["result"].as_str().unwrap().trim();
    assert_eq!(
        result,
        format!("00-{TRACE_ID}-{}-01", to_hex(&process_span.span_id)),
        "the handler receives the context of its own span"
    );
}

#[tokio::test]
async fn unreachable_collector_of_traces_is_logged_once_and_changes_nothing_else() {
    let config = "[traces]\nendpoint = \"http://127.0.0.1:1\"\n";
    let mut system = System::start(config).await;
    for n in 0..20 {
        system.post("q", json!({"data": n})).await;
    }
    assert!(system.api.terminate().success());
    let report_count = system.api.log().iter().filter(|line| line.contains("traces can't be sent")).count();
    assert_eq!(report_count, 1, "{:#?}", system.api.log());
}

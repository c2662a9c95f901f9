//! A client of event streams for tests, which listens as a browser does, and parses the events.

use drover_tests::TIME_LIMIT;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::System;

/// A client of an event stream. The client reads the stream as a browser does.
pub(crate) struct Listener {
    response: Response,
    /// The text that was received but not parsed yet.
    text: String,
    /// The last event id that was received, for `Last-Event-ID`.
    pub(crate) last_event_id: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Event {
    pub(crate) fn message(&self) -> &str {
        self.data["id"].as_str().unwrap()
    }
}

impl System {
    pub(crate) async fn request_events(&self, path: &str, last_event_id: Option<&str>) -> Response {
        let mut request = self.http.get(self.url(path));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn listen_to(&self, path: &str, last_event_id: Option<&str>) -> Listener {
        let response = self.request_events(path, last_event_id).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut client =
            Listener { response, text: String::new(), last_event_id: last_event_id.unwrap_or_default().to_owned() };
        // The first block of a stream has the current event id.
        assert_eq!(client.read_event_block().await.unwrap(), None);
        client
    }

    pub(crate) async fn listen(&self, last_event_id: Option<&str>) -> Listener {
        self.listen_to("/v1/queues/q/events", last_event_id).await
    }

    /// Creates a queue by changing its settings.
    pub(crate) async fn create_queue(&self, queue: &str) {
        self.patch(queue, json!({"max_attempts": 3})).await;
    }

    pub(crate) async fn post_ids(&self, ids: &[String]) {
        self.post_batch("q", ids.iter().map(|id| json!({"data": 1, "id": id}))).await;
    }
}

impl Listener {
    /// Reads a block of the event stream, which ends with an empty line. Returns the event of the block, `None` if the block
    /// has no event, and `Err` at the end of the stream.
    pub(crate) async fn read_event_block(&mut self) -> Result<Option<Event>, ()> {
        let block_end = loop {
            if let Some(block_end) = self.text.find("\n\n") {
                break block_end + 2;
            }
            let chunk = timeout(TIME_LIMIT, self.response.chunk()).await.expect("the stream has a next block or ends");
            match chunk {
                Ok(Some(bytes)) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(None) | Err(_) => return Err(()),
            }
        };
        let rest = self.text.split_off(block_end);
        let block = std::mem::replace(&mut self.text, rest);
        let mut event = Event { id: String::new(), kind: String::new(), data: Value::Null };
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", id) => id.clone_into(&mut self.last_event_id),
                ("event", kind) => kind.clone_into(&mut event.kind),
                ("data", data) => event.data = serde_json::from_str(data).unwrap(),
                ("retry", _) | (":", "") => {}
                other => panic!("{other:?} in {block}"),
            }
        }
        event.id.clone_from(&self.last_event_id);
        Ok((!event.data.is_null()).then_some(event))
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.read_event_block().await {
                Ok(None) => {}
                Ok(event) => return event,
                Err(()) => return None,
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        self.next().await.expect("the stream has a next event")
    }

    pub(crate) async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.event().await.kind);
        }
        kinds
    }
}

pub(crate) fn ids(batch: usize, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("m{batch}-{n}")).collect()
}

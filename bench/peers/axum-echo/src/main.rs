//! The upper limit for the API's throughput: an axum server that parses a message and echoes it, without a queue.
use axum::{Json, Router, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct NewMessage {
    data: Box<RawValue>,
    delay: Option<u64>,
}

#[derive(Serialize)]
struct Message {
    id: u64,
    state: &'static str,
    delay: Option<u64>,
    data: Box<RawValue>,
}

async fn echo(Json(new): Json<NewMessage>) -> (StatusCode, Json<Message>) {
    (StatusCode::CREATED, Json(Message { id: 1, state: "delayed", delay: new.delay, data: new.data }))
}

#[tokio::main]
async fn main() {
    let app = Router::new().route("/v1/queues/{queue}/messages", post(echo));
    let port = std::env::var("PORT").unwrap_or("3001".into());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

//! A worker that sends welcome mails.

use std::{process::ExitCode, time::Duration};

use consumer_worker::{HandlerError, Job, Payload, Routes, State, on};
use serde::{Deserialize, Serialize};
use tower::timeout::TimeoutLayer;

#[derive(Clone)]
struct App {
    sender: &'static str,
}

#[derive(Deserialize)]
struct Welcome {
    to: String,
}

#[derive(Serialize)]
struct Sent {
    text: String,
    attempt: u32,
}

async fn welcome(State(app): State<App>, job: Job, Payload(mail): Payload<Welcome>) -> Result<Sent, HandlerError> {
    let Some((name, _domain)) = mail.to.split_once('@') else {
        return Err(HandlerError::new("no_address", format!("{:?} has no @", mail.to)).for_good());
    };
    job.report_progress(&"writing").await?;
    Ok(Sent { text: format!("Dear {name}, welcome! {}", app.sender), attempt: job.attempt() })
}

fn main() -> ExitCode {
    let routes = Routes::with_state(App { sender: "The Drover" })
        .route("mails", on("welcome", welcome))
        .layer(TimeoutLayer::new(Duration::from_secs(10)));
    consumer_worker::run("mails", routes)
}

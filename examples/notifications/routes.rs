//! The routes of the server: the long poll of a user, the logout, and the page.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    App, delivery,
    drover::{Error, Leased},
    mailboxes::{Announcement, Full, Notification},
    user::User,
};

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/users/{user}/next", get(next))
        .route("/users/{user}/logout", post(log_out))
        .route("/notifications", post(take_over))
        .with_state(app)
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page/page.css")))
}

/// The route of a file of the page.
fn file(content_type: &'static str, text: &'static str) -> MethodRouter {
    let policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    get((headers, text))
}

#[derive(Deserialize)]
struct Acknowledgement {
    /// The value `seen` that came with the last notification that the client has shown to its user.
    seen: Option<String>,
}

/// A notification as the server sends it to a client. A client that gets a notification with the same `id` again must not show the
/// notification again.
#[derive(Serialize)]
struct ShownNotification<'a> {
    id: &'a str,
    name: Option<&'a str>,
    data: &'a RawValue,
    created_at: &'a str,
    /// The token of the lease, which the client sends back to acknowledge the notification. With the token, any server can complete the
    /// message, and a client can acknowledge only notifications that it has received.
    seen: &'a str,
}

/// Answers a user's request with the next notification, or with 204 if no notification arrives in time. A user's request for the next
/// notification also logs the user in.
async fn next(
    State(app): State<Arc<App>>,
    Path(user): Path<User>,
    Query(Acknowledgement { seen }): Query<Acknowledgement>,
) -> Result<Response, Refusal> {
    acknowledge(&app, &user, seen.as_deref()).await?;
    let (mut content, announcement) = app.mailboxes.open(&user)?;
    announce_login(&app, &user, announcement).await?;
    let notification = match timeout(app.times.poll, content.wait_for(Option::is_some)).await {
        Ok(Ok(content)) => content.clone(),
        // No notification has arrived in time, or the mailbox was closed.
        _ => None,
    };
    Ok(match notification {
        Some(notification) => answer(&notification),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Tells Drover that a user is logged in, unless Drover knows it already.
async fn announce_login(app: &App, user: &User, announcement: Announcement) -> Result<(), Error> {
    if announcement == Announcement::Due {
        let now = Instant::now();
        app.drover.log_in(user).await?;
        app.mailboxes.set_login_announced(user, now);
    }
    Ok(())
}

fn answer(notification: &Notification) -> Response {
    notification.set_sent_to_client();
    let message = &notification.message;
    let shown = ShownNotification {
        id: &message.id,
        name: message.name.as_deref(),
        data: &message.data,
        created_at: &message.created_at,
        seen: &message.lease,
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(shown)).into_response()
}

/// Logs a user out, so that Drover holds the user's new notifications.
async fn log_out(
    State(app): State<Arc<App>>,
    Path(user): Path<User>,
    Query(Acknowledgement { seen }): Query<Acknowledgement>,
) -> Result<StatusCode, Refusal> {
    acknowledge(&app, &user, seen.as_deref()).await?;
    app.drover.log_out(&user).await?;
    if let Some(notification) = app.mailboxes.close(&user) {
        delivery::return_notification(&app, &notification).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a notification that another server has leased, if the user of the notification is logged in at this server. A real application
/// would permit `POST /notifications` only to its own servers.
async fn take_over(State(app): State<Arc<App>>, Json(message): Json<Leased>) -> StatusCode {
    let Some(user) = message.group.as_deref().and_then(|group| group.parse().ok()) else {
        return StatusCode::BAD_REQUEST;
    };
    match app.mailboxes.deliver(Arc::new(Notification::new(user, message, Instant::now()))) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::NOT_FOUND,
    }
}

async fn acknowledge(app: &App, user: &User, seen: Option<&str>) -> Result<(), Error> {
    if let Some(lease) = seen {
        app.drover.complete(lease).await?;
        app.mailboxes.acknowledged(user, lease);
    }
    Ok(())
}

/// The reason why the server refuses a request.
enum Refusal {
    Drover(Error),
    Full,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Drover(error)
    }
}

impl From<Full> for Refusal {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Drover(error) if error.has_status(StatusCode::UNPROCESSABLE_ENTITY) => {
                (StatusCode::BAD_REQUEST, "`seen` is not of a notification: send the `seen` of the last answer")
            }
            Self::Drover(error) => {
                warn!("a request of a user fails: {error}");
                (StatusCode::SERVICE_UNAVAILABLE, "Drover is not available: send the request again")
            }
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "too many users are logged in: try again later"),
        };
        let retry = (status == StatusCode::SERVICE_UNAVAILABLE).then_some([(header::RETRY_AFTER, "1")]);
        (status, retry, Json(json!({"error": error}))).into_response()
    }
}

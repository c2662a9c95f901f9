//! The routes of the server: the files of the page, and the WebSocket.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State, WebSocketUpgrade, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use crate::{App, connection, user::User};

/// The maximum size of a frame of a page, in bytes: 4,000 characters of text, each up to 12 bytes of JSON, and an id.
const MAX_FRAME: usize = 64 * 1024;

/// The content security policy: the page loads nothing from other hosts, and runs no inline script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

macro_rules! file {
    ($content_type:literal, $name:literal) => {
        get(async || ([(header::CONTENT_TYPE, $content_type)], include_str!(concat!("page/", $name))))
    };
}

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", file!("text/html; charset=utf-8", "index.html"))
        .route("/chat.css", file!("text/css; charset=utf-8", "chat.css"))
        .route("/chat.js", file!("text/javascript; charset=utf-8", "chat.js"))
        .route("/connection.js", file!("text/javascript; charset=utf-8", "connection.js"))
        .route("/history.js", file!("text/javascript; charset=utf-8", "history.js"))
        .route("/icon.svg", file!("image/svg+xml", "icon.svg"))
        .route("/ws", get(open))
        .layer(map_response(with_security_headers))
        .with_state(app)
}

async fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[derive(Deserialize)]
struct Login {
    user: User,
}

/// Opens the connection of a user's page. The example has no passwords, because it only shows how messages are delivered.
async fn open(
    State(app): State<Arc<App>>,
    login: Result<Query<Login>, QueryRejection>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Query(Login { user }) = match login {
        Ok(login) => login,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{}\n", error.body_text())).into_response(),
    };
    if !is_origin_allowed(&headers) {
        return (StatusCode::FORBIDDEN, "open the page of this server: pages of other sites may not connect\n")
            .into_response();
    }
    upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME).on_upgrade(async move |socket| {
        // When the server stops, it waits for the connections that `app.connections` tracks.
        app.connections.track_future(connection::serve(socket, user, &app)).await;
    })
}

/// Returns whether the request comes from a page of this server, or from a program that is no browser and so names no origin.
/// This check of the request's origin is necessary, because browsers let any page open a WebSocket to any host.
fn is_origin_allowed(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| Some(origin) == host)
}

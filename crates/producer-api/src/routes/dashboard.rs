//! The routes of the dashboard and of the start page. The files of the dashboard need no key, because the files contain no data:
//! the page reads all data over the API.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use super::registry::Routes;
use crate::{
    app::App,
    dashboard::{self, DASHBOARD_PAGE, START_PAGE},
};

/// The content security policy of the dashboard: the page may load files only from this server, send requests only to
/// this server, and write no text as HTML.
const CONTENT_POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
);

/// The header that makes browsers cache the dashboard's files but ask before each use whether the files have changed, so
/// that the modules of two versions of Drover never run together.
const REVALIDATE_BEFORE_USE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));

pub(super) fn register(routes: Routes) -> Routes {
    routes
        .tag("service")
        .add_file("/", get(async |app, headers| respond(app, &headers, START_PAGE)))
        .add_file("/dashboard", get(async |app, headers| respond(app, &headers, DASHBOARD_PAGE)))
        // The target of the redirect is relative, because a proxy may add a prefix to the paths.
        .add_file("/dashboard/", get(async || Redirect::permanent("../dashboard")))
        .add_file("/dashboard/{file}", get(file))
}

async fn file(app: State<App>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(app, &headers, &name)
}

/// Responds with a file, or with 304 if the browser has it.
fn respond(State(app): State<App>, headers: &HeaderMap, name: &str) -> Response {
    let Some(file) = dashboard::find_file(name).filter(|_| app.dashboard.enabled) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = HeaderValue::from_str(&file.etag).ok().map(|etag| (header::ETAG, etag));
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == file.etag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.content_type)], file.content).into_response()
    };
    response.headers_mut().extend([CONTENT_POLICY, REVALIDATE_BEFORE_USE]);
    response.headers_mut().extend(etag);
    response
}

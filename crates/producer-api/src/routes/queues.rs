//! Queues: how they stand, their settings, and what is done to all of a queue.

use axum::{Json, extract::State as AppState, http::StatusCode, response::Response};
use queue_core::{MostMessages, Queue, QueueName, QueueStatus, SettingsPatch, State};
use serde::{Deserialize, Serialize};
use service::{Code, Problem, config::Scope};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};
use utoipa_axum::routes;

use super::{
    QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::AnswerMemory,
    api::{
        query::{self, NoQuery, Query},
        reading,
    },
    auth::Caller,
    body::{JsonBody, NoBody},
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE: Needs = Needs::OnQueue(Scope::Manage);
    routes
        .add(Needs::OnSome(Scope::Read), Limit::OfRequest, &[Code::CursorNotFound], routes!(list))
        .add(Needs::OnQueue(Scope::Read), Limit::OfRequest, &[Code::QueueNotFound], routes!(show))
        .add(
            MANAGE,
            Limit::OfRequest,
            &[Code::QueueNotFound, Code::InvalidSettings, Code::SettingsConflict],
            routes!(configure),
        )
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound, Code::NotConfirmed], routes!(delete))
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound], routes!(pause))
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound], routes!(resume))
        .add(MANAGE, Limit::OfSteps, &[Code::QueueNotFound], routes!(purge))
        .add(MANAGE, Limit::OfSteps, &[Code::QueueNotFound], routes!(retry_failed))
}

/// How many queues a page has at most, if the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Which queues to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// List only queues whose names begin so.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    prefix: Option<QueueName>,
    /// How many at most; 100 if absent.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    limit: Option<MostMessages>,
    /// The `next_cursor` of the page before.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline, value_type = Option<QueueName>)]
    cursor: Option<String>,
}

/// A page of the queues that there are, and that the key may read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queues {
    queues: Vec<QueueStatus>,
    /// Where the list goes on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    next_cursor: Option<QueueName>,
}

/// What a purge did.
#[derive(Serialize, ToSchema)]
pub(crate) struct Purged {
    /// Messages forgotten.
    purged: u64,
}

/// What a retry of all did.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// Messages that are ready again.
    retried: u64,
}

/// `?state=failed` of a purge.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PurgeQuery {
    /// Which messages to forget; active ones are not purged.
    #[serde(default, deserialize_with = "query::text")]
    #[param(required, inline, value_type = PurgedState)]
    state: Option<String>,
}

impl PurgeQuery {
    fn state(&self) -> Result<State, Problem> {
        match self.state.as_deref().map(str::parse) {
            Some(Ok(State::Active)) => Err(refusal::active_is_not_purged()),
            Some(Ok(state)) => Ok(state),
            None | Some(Err(_)) => Err(refusal::purge_of_which_state()),
        }
    }
}

/// A state that can be purged.
struct PurgedState;

impl PartialSchema for PurgedState {
    fn schema() -> RefOr<Schema> {
        let states = State::ALL.iter().copied().filter(|state| *state != State::Active);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states.map(State::as_str))).into()
    }
}

impl ToSchema for PurgedState {}

/// `?confirm={queue}` of what can't be undone.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Confirmation {
    /// The queue's name once more: this can't be undone.
    #[serde(default, deserialize_with = "query::text")]
    #[param(required, inline, value_type = QueueName)]
    confirm: Option<String>,
}

/// Read queues
///
/// All that the key may read, or those whose names begin with a prefix; in the order of their names, page by page.
#[utoipa::path(
    get,
    path = "/v1/queues",
    operation_id = "list_queues",
    tag = "queues",
    responses((status = 200, description = "A page", body = Queues)),
    params(Listing),
)]
pub(crate) async fn list(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(Listing { prefix, limit, cursor }): Query<Listing>,
    memory: AnswerMemory,
) -> Result<Response, Problem> {
    // A cursor is the last name that the page before looked at, which is one that the key may read.
    let after = cursor.map(QueueName::try_from).transpose().map_err(|_| refusal::invalid_cursor())?;
    let prefix = prefix.as_ref().map_or("", QueueName::as_str);
    let limit = limit.map_or(DEFAULT_LIMIT, MostMessages::get);
    let page = app.shared.queues.list(&caller.readable(), prefix, after.as_ref(), limit).await;
    let (queues, next_cursor) = page.map_err(refusal::from_queue)?;
    memory.read(&Queues { queues, next_cursor }, 0)
}

/// Read a queue
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}",
    operation_id = "read_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = QueueStatus)),
)]
pub(crate) async fn show(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
) -> Result<Json<QueueStatus>, Problem> {
    status(&app.shared.queues.queue(&name)).await.map(Json)
}

/// Change settings
///
/// A merge patch (RFC 7396): what it does not name stays, a null brings back the default. The queue begins with its first
/// settings; an empty patch begins none.
#[utoipa::path(
    patch,
    path = "/v1/queues/{queue}",
    operation_id = "configure_queue",
    tag = "queues",
    request_body(content((SettingsPatch = "application/merge-patch+json"), (SettingsPatch = "application/json")), description = "What to change"),
    responses((status = 200, description = "How the queue stands", body = QueueStatus)),
)]
pub(crate) async fn configure(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<QueueStatus>, Problem> {
    let patch = reading::members(&body)?.into();
    let queue = app.shared.queues.queue(&name);
    queue.configure(&patch).await.map_err(|error| refusal::of_queue(error, &name))?;
    status(&queue).await.map(Json)
}

/// Pause a queue
///
/// Nothing more is handed out until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/pause",
    operation_id = "pause_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = QueueStatus)),
)]
pub(crate) async fn pause(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<QueueStatus>, Problem> {
    let queue = app.shared.queues.queue(&name);
    // A slip in the name must not begin a queue.
    status(&queue).await?;
    queue.pause().await.map_err(|error| refusal::of_queue(error, &name))?;
    status(&queue).await.map(Json)
}

/// Resume a queue
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/resume",
    operation_id = "resume_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = QueueStatus)),
)]
pub(crate) async fn resume(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<QueueStatus>, Problem> {
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    queue.resume().await.map_err(|error| refusal::of_queue(error, &name))?;
    status(&queue).await.map(Json)
}

/// Purge a queue
///
/// Forgets the messages that are in a state now.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/purge",
    operation_id = "purge_queue",
    tag = "queues",
    responses((status = 200, description = "How many there were", body = Purged)),
    params(PurgeQuery),
)]
pub(crate) async fn purge(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    Query(asked): Query<PurgeQuery>,
    _: NoBody,
) -> Result<Json<Purged>, Problem> {
    let state = asked.state()?;
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    let purged = app.see_through(async move { queue.purge(state).await }).await?;
    purged.map(|purged| Json(Purged { purged })).map_err(refusal::from_queue)
}

/// Retry all failed messages
///
/// Those that have failed until now become ready, the oldest first.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/retry_failed",
    operation_id = "retry_failed",
    tag = "queues",
    responses((status = 200, description = "How many there were", body = Retried)),
)]
pub(crate) async fn retry_failed(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<Retried>, Problem> {
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    let retried = app.see_through(async move { queue.retry_failed().await }).await?;
    retried.map(|retried| Json(Retried { retried })).map_err(refusal::from_queue)
}

/// Delete a queue
///
/// With everything in it, active messages too: their leases are gone.
#[utoipa::path(
    delete,
    path = "/v1/queues/{queue}",
    operation_id = "delete_queue",
    tag = "queues",
    responses((status = 204, description = "It is gone")),
    params(Confirmation),
)]
pub(crate) async fn delete(
    AppState(app): AppState<App>,
    QueuePath(name): QueuePath,
    Query(Confirmation { confirm }): Query<Confirmation>,
) -> Result<StatusCode, Problem> {
    match confirm {
        None => return Err(refusal::confirm_is_required()),
        Some(confirmed) if confirmed != name.as_str() => return Err(refusal::not_confirmed(&name)),
        Some(_) => {}
    }
    let queue = app.shared.queues.queue(&name);
    // Two steps, of which the second is not to be left out.
    let was_there = app.see_through(async move { queue.delete().await }).await?;
    if was_there.map_err(refusal::from_queue)? { Ok(StatusCode::NO_CONTENT) } else { Err(not_found(&name)) }
}

async fn status(queue: &Queue) -> Result<QueueStatus, Problem> {
    let status = queue.status().await.map_err(refusal::from_queue)?;
    status.ok_or_else(|| not_found(queue.name()))
}

fn not_found(name: &QueueName) -> Problem {
    refusal::queue_not_found(name)
}

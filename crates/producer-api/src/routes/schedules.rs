//! The endpoints that create, read, pause, resume and delete schedules, and that post a schedule's message now.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use queue_core::{
    DefinedBy, Message, PutSchedule, QueueName, ScheduleName,
    schedule::{NewSchedule, Schedule},
};
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::{
        json, limit_or,
        message::message_path,
        schedule::{SchedulePage, ScheduleQuery},
    },
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{JsonBody, NoBody, NoQuery, Query, QueuePath, SchedulePath},
    response::Responder,
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Manage);
    const READ_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Read);
    let put_errors = &[Code::InvalidSchedule, Code::QueueExclusive, Code::TooManySchedules, Code::OutOfMemory];
    let run_errors = &[Code::ScheduleNotFound, Code::QueueFull, Code::OutOfMemory];
    routes
        .tag("schedules")
        .add_unlimited(MANAGE_SCOPE, put_errors, routes!(put_schedule))
        .add(READ_SCOPE, &[Code::ScheduleNotFound], routes!(read_schedule))
        .add(MANAGE_SCOPE, &[Code::ScheduleNotFound], routes!(delete_schedule))
        .add(READ_SCOPE, &[Code::QueueNotFound, Code::CursorNotFound], routes!(list_schedules))
        .add(MANAGE_SCOPE, &[Code::ScheduleNotFound], routes!(pause_schedule))
        .add(MANAGE_SCOPE, &[Code::ScheduleNotFound], routes!(resume_schedule))
        .add_unlimited(MANAGE_SCOPE, run_errors, routes!(run_schedule))
}

const DEFAULT_PAGE_SIZE: usize = 50;

/// Create or replace a schedule
///
/// An equal definition does not change the schedule. A replaced schedule counts its runs anew, and stays paused if it was
/// paused. The first schedule of a queue creates the queue.
#[utoipa::path(
    put, path = "/v1/queues/{queue}/schedules/{name}",
    request_body(content = NewSchedule, description = "The definition of the schedule"),
    responses(
        (status = 201, description = "The schedule was created", body = Schedule),
        (status = 200, description = "The schedule existed already, and has the definition of the request", body = Schedule),
    ),
)]
async fn put_schedule(
    SchedulePath { app, queue, name }: SchedulePath,
    _: NoQuery,
    responder: Responder,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    let definition: NewSchedule = json::parse_body(&body)?;
    // `put_schedule` has several steps, so `put_schedule` runs to its end even if the client disconnects.
    let put_outcome =
        app.run_to_end(async move { queue.put_schedule(&name, definition, DefinedBy::Client).await }).await?;
    let (status, schedule) = match put_outcome.map_err(errors::queue_error)? {
        PutSchedule::Created(schedule) => (StatusCode::CREATED, schedule),
        PutSchedule::Existed(schedule) => (StatusCode::OK, schedule),
    };
    let mut response = responder.respond_to_change(&schedule, 0)?;
    *response.status_mut() = status;
    Ok(response)
}

/// Read a schedule
#[utoipa::path(
    get, path = "/v1/queues/{queue}/schedules/{name}",
    responses((status = 200, description = "The schedule", body = Schedule)),
)]
async fn read_schedule(path: SchedulePath, _: NoQuery, responder: Responder) -> Result<Response> {
    responder.respond_to_read(&find_schedule(&path).await?, 0)
}

/// Delete a schedule
///
/// The messages that the schedule has posted stay in the queue.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/schedules/{name}",
    responses((status = 204, description = "The schedule is deleted")),
)]
async fn delete_schedule(SchedulePath { queue, name, .. }: SchedulePath, _: NoQuery) -> Result<StatusCode> {
    let had_existed = queue.delete_schedule(&name).await.map_err(errors::queue_error)?;
    if had_existed { Ok(StatusCode::NO_CONTENT) } else { Err(schedule_not_found(queue.name(), &name)) }
}

/// List schedules
///
/// Lists the schedules of a queue in the order of their names, page by page. A page of large messages ends early: it has at most
/// about 4 MiB.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/schedules",
    responses((status = 200, description = "A page of the list", body = SchedulePage)), params(ScheduleQuery),
)]
async fn list_schedules(
    QueuePath { queue, .. }: QueuePath,
    Query(ScheduleQuery { limit, cursor }): Query<ScheduleQuery>,
    responder: Responder,
) -> Result<Response> {
    // The cursor is the name of the page's last schedule.
    let after_name = cursor.map(ScheduleName::try_from).transpose().map_err(|_| errors::INVALID_CURSOR)?;
    let limit = limit_or(DEFAULT_PAGE_SIZE, limit);
    let memory_for_response = responder.reserve(limit)?;
    let page = queue.schedules(after_name.as_ref(), limit).await.map_err(errors::queue_error)?;
    let (schedules, has_more) = page.ok_or_else(|| errors::queue_not_found(queue.name()))?;
    let next_cursor = schedules.last().filter(|_| has_more).map(|last| last.name.clone());
    memory_for_response.json_response(&SchedulePage { schedules, next_cursor })
}

/// Pause a schedule
///
/// The schedule has no ticks until it is resumed.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/schedules/{name}/pause",
    responses((status = 200, description = "The schedule", body = Schedule)),
)]
async fn pause_schedule(path: SchedulePath, _: NoQuery, responder: Responder, _: NoBody) -> Result<Response> {
    let SchedulePath { queue, name, .. } = &path;
    if !queue.pause_schedule(name).await.map_err(errors::queue_error)? {
        return Err(schedule_not_found(queue.name(), name));
    }
    responder.respond_to_change(&find_schedule(&path).await?, 0)
}

/// Resume a schedule
///
/// The next tick of a resumed schedule is the first tick after the time of the request. No messages are posted for the ticks
/// during the pause.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/schedules/{name}/resume",
    responses((status = 200, description = "The schedule", body = Schedule)),
)]
async fn resume_schedule(path: SchedulePath, _: NoQuery, responder: Responder, _: NoBody) -> Result<Response> {
    let SchedulePath { queue, name, .. } = &path;
    if !queue.resume_schedule(name).await.map_err(errors::queue_error)? {
        return Err(schedule_not_found(queue.name(), name));
    }
    responder.respond_to_change(&find_schedule(&path).await?, 0)
}

/// Post a schedule's message now
///
/// This request posts the schedule's message even if the schedule is paused or has ended. The request does not change the
/// ticks, `runs` and `last_message` of the schedule.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/schedules/{name}/run",
    responses((status = 201, description = "The message is stored", body = Message)),
)]
async fn run_schedule(SchedulePath { queue, name, .. }: SchedulePath, _: NoQuery, _: NoBody) -> Result<Response> {
    let message = queue.run_schedule(&name).await.map_err(errors::enqueue_error)?;
    let message = message.ok_or_else(|| schedule_not_found(queue.name(), &name))?;
    let location = message_path(queue.name(), &message.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(message)).into_response())
}

async fn find_schedule(SchedulePath { queue, name, .. }: &SchedulePath) -> Result<Schedule> {
    let schedule = queue.schedule(name).await.map_err(errors::queue_error)?;
    schedule.ok_or_else(|| schedule_not_found(queue.name(), name))
}

fn schedule_not_found(queue: &QueueName, name: &ScheduleName) -> Problem {
    let detail = format!(
        "queue {queue} has no schedule {name}; PUT /v1/queues/{queue}/schedules/{name} creates it, and GET \
         /v1/queues/{queue}/schedules lists the schedules"
    );
    Problem::new(Code::ScheduleNotFound, detail)
}

//! Leases: receiving messages, and ending or extending the leases.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use queue_core::{
    ConsumerId, Delivery, Extended, LeaseRequest, LeaseToken, MAX_MESSAGES_PER_CALL, Message, Millis, Queue, Reported,
    Settled, Stay, Timestamp, Whole,
};
use serde::Serialize;
use serde_json::value::RawValue;
use service::{Code, Problem, config::Scope, unknown};
use utoipa_axum::routes;

use super::{
    NoQuery, QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    auth::Caller,
    body::{JsonBody, OptionalJsonBody},
    fields::{Reader, field_error},
    json, refusal,
    settlement::{self, Deed, Settlement, Verb},
};

pub(super) fn register(routes: Routes) -> Routes {
    const CONSUME: Needs = Needs::OnQueue(Scope::Consume);
    const SETTLING: &[Code] = &[Code::InvalidSettlement, Code::LeaseGone];
    let receiving = &[Code::InvalidReceive, Code::TooManyWaits, Code::ForeignOrigin];
    let settling_many = &[Code::InvalidSettlement, Code::TooManySettlements];
    routes
        .add(CONSUME, Limit::OfRequest, receiving, routes!(receive))
        .add(CONSUME, Limit::OfRequest, SETTLING, routes!(complete))
        .add(CONSUME, Limit::OfRequest, SETTLING, routes!(fail))
        .add(CONSUME, Limit::OfRequest, SETTLING, routes!(release))
        .add(CONSUME, Limit::OfRequest, SETTLING, routes!(extend))
        .add(CONSUME, Limit::OfRequest, settling_many, routes!(settle))
}

/// What a receive answers.
#[derive(Serialize)]
pub(crate) struct Received {
    consumer: ConsumerId,
    messages: Vec<Leased>,
}

/// A message with the right to work on it.
#[derive(Serialize)]
struct Leased {
    #[serde(flatten)]
    message: Message,
    #[serde(serialize_with = "as_text")]
    lease: LeaseToken,
    lease_expires_at: Timestamp,
    timeout: Option<Millis>,
}

/// What became of one lease.
#[derive(Serialize)]
pub(crate) struct Ended {
    #[serde(serialize_with = "as_text")]
    lease: LeaseToken,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Extended,
    Gone,
    #[serde(untagged)]
    Now(queue_core::State),
}

/// What a settlement of many answers.
#[derive(Serialize)]
pub(crate) struct EndedAll {
    settlements: Vec<Ended>,
}

fn as_text<S: serde::Serializer>(lease: &LeaseToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(lease)
}

/// Receive messages
///
/// Each with a lease: while it lives, the message is the consumer's own. What was leased for a client that went away while it
/// waited is released at once, with no attempt spent.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases",
    operation_id = "receive",
    tag = "leases",
    request_body(content = ref("Receive"), description = "It may be absent", content_type = "application/json"),
    responses((status = 200, description = "What there is", body = ref("Received"), content_type = "application/json")),
    extensions(("x-body-is-optional" = json!(true))),
)]
pub(crate) async fn receive(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    caller: Caller,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<Received>, Problem> {
    let (request, wait) = parse_receive(&app, body.as_deref().unwrap_or(b"{}"))?;
    // Its memory is not held while the request waits.
    drop(body);
    let _waits = app.wait(&caller, wait)?;
    let consumer = request.consumer.clone();
    let queue = app.shared.queues.queue(&queue);
    let deliveries = app.shared.receivers.receive(&queue, request, wait).await.map_err(refusal::from_queue)?;
    let messages = deliveries
        .into_iter()
        .map(|Delivery { message, lease, lease_expires_at, timeout, .. }| Leased {
            message,
            lease,
            lease_expires_at,
            timeout,
        })
        .collect();
    Ok(Json(Received { consumer, messages }))
}

fn parse_receive(app: &App, body: &[u8]) -> Result<(LeaseRequest, Millis), Problem> {
    let object = json::object(body)?;
    let (mut max, mut wait, mut visibility_timeout, mut consumer) = (None, None, None, None);
    let mut errors = Vec::new();
    let longest = app.shared.max_wait;
    for (name, value) in &object.0 {
        let mut reader = Reader { pointer: "", name, value, errors: &mut errors };
        match name.as_ref() {
            "max" => {
                max = reader.read_checked(|Whole(max)| match usize::try_from(*max) {
                    Ok(1..=MAX_MESSAGES_PER_CALL) => Ok(()),
                    _ => Err("must be 1 to 1000"),
                });
            }
            "wait" => {
                wait = reader.read_checked(
                    |wait: &Millis| {
                        if *wait <= longest { Ok(()) } else { Err(refusal::longest_wait(longest)) }
                    },
                );
            }
            "visibility_timeout" => visibility_timeout = settlement::read_lease_time(&mut reader),
            "consumer" => consumer = reader.read(),
            other => {
                let known = ["max", "wait", "visibility_timeout", "consumer"];
                errors.push(field_error("", other, unknown(other, known)));
            }
        }
    }
    if !errors.is_empty() {
        return Err(refusal::invalid_receive(errors));
    }
    // One that names itself will be back; one that does not has an id of its own each time.
    let stay = if consumer.is_some() { Stay::AsLongAsItAsks } else { Stay::WhileItHasLeases };
    let consumer = consumer.unwrap_or_else(ConsumerId::issue);
    let request = LeaseRequest {
        consumer,
        max: max.map_or(1, |Whole(max)| usize::try_from(max).unwrap_or(1)),
        visibility_timeout,
        stay,
    };
    Ok((request, wait.unwrap_or(Millis::ZERO)))
}

/// Complete a message
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/complete",
    operation_id = "complete_lease",
    tag = "leases",
    request_body(content = ref("Complete"), description = "The lease", content_type = "application/json"),
    responses((status = 200, description = "What became of it", body = ref("Ended"), content_type = "application/json")),
)]
pub(crate) async fn complete(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    body: JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Verb::Complete, body).await
}

/// Fail an attempt
///
/// The message comes back after its back-off while it has attempts left.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/fail",
    operation_id = "fail_lease",
    tag = "leases",
    request_body(content = ref("Fail"), description = "The lease", content_type = "application/json"),
    responses((status = 200, description = "What became of it", body = ref("Ended"), content_type = "application/json")),
)]
pub(crate) async fn fail(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    body: JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Verb::Fail, body).await
}

/// Release a message
///
/// No attempt was made: it goes back to the head of the line.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/release",
    operation_id = "release_lease",
    tag = "leases",
    request_body(content = ref("Release"), description = "The lease", content_type = "application/json"),
    responses((status = 200, description = "What became of it", body = ref("Ended"), content_type = "application/json")),
)]
pub(crate) async fn release(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    body: JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Verb::Release, body).await
}

/// Extend a lease
///
/// Not beyond the time-out of the run.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/extend",
    operation_id = "extend_lease",
    tag = "leases",
    request_body(content = ref("Extend"), description = "The lease", content_type = "application/json"),
    responses((status = 200, description = "What became of it", body = ref("Ended"), content_type = "application/json")),
)]
pub(crate) async fn extend(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    body: JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Verb::Extend, body).await
}

/// Settle many leases
///
/// Each on its own: one that is over has the outcome `gone`.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/settle",
    operation_id = "settle_leases",
    tag = "leases",
    request_body(content = ref("Settle"), description = "The leases", content_type = "application/json"),
    responses((status = 200, description = "What became of each", body = ref("EndedAll"), content_type = "application/json")),
)]
pub(crate) async fn settle(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<EndedAll>, Problem> {
    let settlements = settlement::parse_many(&body)?;
    let queue = app.shared.queues.queue(&queue);
    end_all(&queue, settlements).await.map(|settlements| Json(EndedAll { settlements }))
}

async fn end_one(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    verb: Verb,
    JsonBody(body): JsonBody,
) -> Result<Json<Ended>, Problem> {
    let settlement = settlement::parse(verb, &body)?;
    let queue = app.shared.queues.queue(&queue);
    let ended = end_all(&queue, vec![settlement]).await?.pop().ok_or_else(refusal::internal)?;
    if ended.outcome == Outcome::Gone { Err(refusal::lease_gone()) } else { Ok(Json(ended)) }
}

/// Ends and extends leases, each on its own; an answer for each, in order.
async fn end_all(queue: &Queue, settlements: Vec<Settlement>) -> Result<Vec<Ended>, Problem> {
    let mut answers: Vec<Option<Ended>> = settlements.iter().map(|_| None).collect();
    let mut ends = Vec::new();
    let mut extensions: BTreeMap<Option<Millis>, Vec<Extension>> = BTreeMap::new();
    for (place, Settlement { lease, deed }) in settlements.into_iter().enumerate() {
        match deed {
            Deed::End(action) => ends.push((place, queue_core::Settlement { lease, action })),
            Deed::Extend { visibility_timeout, progress } => {
                extensions.entry(visibility_timeout).or_default().push(Extension { place, lease, progress });
            }
        }
    }
    // Those that last equally long are one call.
    for (visibility_timeout, some) in extensions {
        for (place, ended) in extend_some(queue, visibility_timeout, some).await? {
            answers[place] = Some(ended);
        }
    }
    let (places, ends): (Vec<usize>, Vec<queue_core::Settlement>) = ends.into_iter().unzip();
    let settled = queue.settle(&ends).await.map_err(refusal::from_queue)?;
    for ((place, end), settled) in places.into_iter().zip(ends).zip(settled) {
        let outcome = match settled {
            Settled::Now(state) => Outcome::Now(state),
            Settled::Gone => Outcome::Gone,
        };
        answers[place] = Some(Ended { lease: end.lease, outcome, lease_expires_at: None, cancel_requested: false });
    }
    answers.into_iter().map(|answer| answer.ok_or_else(refusal::internal)).collect()
}

/// A lease that is to be extended, and its place among the settlements.
struct Extension {
    place: usize,
    lease: LeaseToken,
    progress: Option<Box<RawValue>>,
}

async fn extend_some(
    queue: &Queue,
    visibility_timeout: Option<Millis>,
    some: Vec<Extension>,
) -> Result<Vec<(usize, Ended)>, Problem> {
    let leases: Vec<LeaseToken> = some.iter().map(|extension| extension.lease.clone()).collect();
    let extended = queue.extend(&leases, visibility_timeout).await.map_err(refusal::from_queue)?;
    let mut answers = Vec::with_capacity(some.len());
    for (Extension { place, lease, progress }, extended) in some.into_iter().zip(extended) {
        let (mut outcome, lease_expires_at, cancel_requested) = match extended {
            Extended::Until(deadline) => (Outcome::Extended, Some(deadline), false),
            Extended::ToBeCancelled(deadline) => (Outcome::Extended, Some(deadline), true),
            Extended::Gone => (Outcome::Gone, None, false),
        };
        if let (Outcome::Extended, Some(progress)) = (outcome, progress)
            && queue.report_progress(&lease, &progress).await.map_err(refusal::from_queue)? == Reported::Gone
        {
            outcome = Outcome::Gone;
        }
        answers.push((place, Ended { lease, outcome, lease_expires_at, cancel_requested }));
    }
    Ok(answers)
}

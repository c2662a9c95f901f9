//! Leases: receiving messages, and ending or extending the leases.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, response::Response};
use queue_core::{ConsumerId, Error, Extended, LeaseRequest, LeaseToken, Millis, Queue};
use serde_json::value::RawValue;
use service::{Code, FieldError, Problem, config::Scope};
use utoipa_axum::routes;

use super::{
    QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::{AnswerMemory, LeaseRoom},
    api::{
        True,
        lease::{Ended, EndedAll, LeasedMessage, Outcome, Receive, Received},
        query::NoQuery,
        reading::{self, Body},
        settlement::{Complete, Extend, Fail, LeaseAction, Release, Settle, Settlement},
    },
    auth::Caller,
    body::{JsonBody, OptionalJsonBody},
    refusal,
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

/// Receive messages
///
/// Each with a lease: while it lives, the message is the consumer's own. What was leased for a client that went away while it
/// waited is released at once, with no attempt spent.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases",
    operation_id = "receive",
    tag = "leases",
    request_body(content = Option<Receive>, description = "It may be absent"),
    responses((status = 200, description = "What there is", body = Received)),
)]
pub(crate) async fn receive(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    caller: Caller,
    memory: AnswerMemory,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response, Problem> {
    let Receive { max, wait, visibility_timeout, consumer } =
        body.as_deref().map_or_else(|| Ok(Receive::default()), reading::body)?;
    let wait = wait.within(&app).map_err(|detail| {
        refusal::invalid_field(Code::InvalidReceive, FieldError { pointer: "/wait".into(), detail })
    })?;
    // Its memory is not held while the request waits.
    drop(body);
    let _waits = app.wait(&caller, wait)?;
    // One that names itself will be back; one that does not has an id of its own each time.
    let is_named = consumer.is_some();
    let consumer = consumer.unwrap_or_else(ConsumerId::issue);
    let mut request = LeaseRequest::new(consumer.clone(), max.get());
    request.visibility_timeout = visibility_timeout.map(|time| *time);
    if !is_named {
        request = request.without_owner_timeout();
    }
    let queue = app.shared.queues.queue(&queue);
    let room = Arc::new(LeaseRoom::new(memory.clone(), request.max));
    let received = app.shared.receivers.receive_within(&queue, request, wait, Arc::<LeaseRoom>::clone(&room)).await;
    let (deliveries, reserved) = match (received, room.outcome()) {
        (Err(Error::Overloaded), Some(Err(problem))) => return Err(problem),
        (received, outcome) => (received.map_err(refusal::from_queue)?, outcome.and_then(Result::ok)),
    };
    let received = Received { consumer, messages: deliveries.into_iter().map(LeasedMessage::from).collect() };
    match reserved {
        Some(reserved) => reserved.json(&received),
        None => memory.done(&received, 0),
    }
}

/// Complete a message
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/complete",
    operation_id = "complete_lease",
    tag = "leases",
    request_body(content = Complete, description = "The lease"),
    responses((status = 200, description = "What became of it", body = Ended)),
)]
pub(crate) async fn complete(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Settlement::Complete, &body).await
}

/// Fail an attempt
///
/// The message comes back after its back-off while it has attempts left.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/fail",
    operation_id = "fail_lease",
    tag = "leases",
    request_body(content = Fail, description = "The lease"),
    responses((status = 200, description = "What became of it", body = Ended)),
)]
pub(crate) async fn fail(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Settlement::Fail, &body).await
}

/// Release a message
///
/// No attempt was made: it goes back to the head of the line.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/release",
    operation_id = "release_lease",
    tag = "leases",
    request_body(content = Release, description = "The lease"),
    responses((status = 200, description = "What became of it", body = Ended)),
)]
pub(crate) async fn release(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Settlement::Release, &body).await
}

/// Extend a lease
///
/// Not beyond the time-out of the run.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/extend",
    operation_id = "extend_lease",
    tag = "leases",
    request_body(content = Extend, description = "The lease"),
    responses((status = 200, description = "What became of it", body = Ended)),
)]
pub(crate) async fn extend(
    state: State<App>,
    queue: QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Ended>, Problem> {
    end_one(state, queue, Settlement::Extend, &body).await
}

/// Settle many leases
///
/// Each on its own: one that is over has the outcome `gone`.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/leases/settle",
    operation_id = "settle_leases",
    tag = "leases",
    request_body(content = Settle, description = "The leases"),
    responses((status = 200, description = "What became of each", body = EndedAll)),
)]
pub(crate) async fn settle(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    memory: AnswerMemory,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let Settle { settlements } = reading::body(&body)?;
    if settlements.is_empty() || settlements.len() > Queue::MAX_MESSAGES {
        return Err(refusal::too_many_settlements(settlements.len()));
    }
    let queue = app.shared.queues.queue(&queue);
    memory.done(&EndedAll { settlements: end_all(&queue, settlements).await? }, 0)
}

async fn end_one<T: Body>(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    action: fn(T) -> Settlement,
    body: &[u8],
) -> Result<Json<Ended>, Problem> {
    let settlement = action(reading::body(body)?);
    let queue = app.shared.queues.queue(&queue);
    let ended = end_all(&queue, vec![settlement]).await?.pop().ok_or_else(refusal::internal)?;
    if ended.outcome == Outcome::Gone { Err(refusal::lease_gone()) } else { Ok(Json(ended)) }
}

/// Ends and extends leases, each on its own; an answer for each, in order.
async fn end_all(queue: &Queue, settlements: Vec<Settlement>) -> Result<Vec<Ended>, Problem> {
    let mut answers: Vec<Option<Ended>> = settlements.iter().map(|_| None).collect();
    let mut ends = Vec::new();
    let mut extensions: BTreeMap<Option<Millis>, Vec<Extension>> = BTreeMap::new();
    for (place, settlement) in settlements.into_iter().enumerate() {
        match settlement.into() {
            LeaseAction::End(end) => ends.push((place, end)),
            LeaseAction::Extend(Extend { lease, visibility_timeout, progress, .. }) => {
                let extension = Extension { place, lease, progress };
                extensions.entry(visibility_timeout.map(|time| *time)).or_default().push(extension);
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
            Some(state) => state.into(),
            None => Outcome::Gone,
        };
        answers[place] = Some(Ended { lease: end.lease, outcome, lease_expires_at: None, cancel_requested: None });
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
            Extended::Until(deadline) => (Outcome::Extended, Some(deadline), None),
            Extended::ToBeCancelled(deadline) => (Outcome::Extended, Some(deadline), Some(True)),
            Extended::LeaseOver => (Outcome::Gone, None, None),
        };
        if let (Outcome::Extended, Some(progress)) = (outcome, progress)
            && !queue.report_progress(&lease, &progress).await.map_err(refusal::from_queue)?
        {
            outcome = Outcome::Gone;
        }
        answers.push((place, Ended { lease, outcome, lease_expires_at, cancel_requested }));
    }
    Ok(answers)
}

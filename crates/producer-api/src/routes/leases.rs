//! The endpoints that lease messages to consumers, and that settle or extend leases.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, response::Response};
use queue_core::{ConsumerId, Error, Extended, LeaseRequest, LeaseToken, Millis, Queue};
use serde_json::value::RawValue;
use service::{Code, FieldError, config::Scope};
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::{
        True,
        json::{self, Body},
        lease::{LeaseResult, LeaseResults, LeasedMessage, Outcome, Receive, Received},
        limit_or,
        settlement::{Complete, Extend, Fail, LeaseAction, Release, Settle, Settlement},
    },
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{JsonBody, NoQuery, OptionalJsonBody, QueuePath},
    response::{LeaseMemory, Responder},
};

pub(super) fn register(routes: Routes) -> Routes {
    const CONSUME_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Consume);
    const SETTLE_ERRORS: &[Code] = &[Code::InvalidSettlement, Code::LeaseGone];
    let receive_errors = &[Code::InvalidReceive, Code::TooManyWaits, Code::ForeignOrigin];
    routes
        .tag("leases")
        .add(CONSUME_SCOPE, receive_errors, routes!(receive))
        .add(CONSUME_SCOPE, SETTLE_ERRORS, routes!(complete_lease))
        .add(CONSUME_SCOPE, SETTLE_ERRORS, routes!(fail_lease))
        .add(CONSUME_SCOPE, SETTLE_ERRORS, routes!(release_lease))
        .add(CONSUME_SCOPE, SETTLE_ERRORS, routes!(extend_lease))
        .add(CONSUME_SCOPE, &[Code::InvalidSettlement, Code::TooManySettlements], routes!(settle_leases))
}

/// Receive messages
///
/// Each message has a lease, which gives the consumer the right to work on the message. If the client disconnects while it
/// waits, messages that were leased for it are released at once, and no attempt is counted.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases", request_body(content = Option<Receive>, description = "The body may be absent"),
    responses((status = 200, description = "The leased messages", body = Received)),
)]
async fn receive(
    QueuePath { app, queue }: QueuePath,
    _: NoQuery,
    responder: Responder,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response> {
    let Receive { max, wait, visibility_timeout, consumer } =
        body.as_deref().map_or_else(|| Ok(Receive::default()), json::parse_body)?;
    let wait = wait.unwrap_or_default().check_limit(*app.limits.max_wait).map_err(|detail| {
        errors::invalid_field(Code::InvalidReceive, FieldError { pointer: "/wait".into(), detail })
    })?;
    // The memory of the body returns to the budget before the request waits for messages.
    drop(body);
    let _wait_share = app.count_waiting_request(responder.caller.key(), wait)?;
    let has_sent_id = consumer.is_some();
    let consumer = consumer.unwrap_or_else(ConsumerId::issue);
    let mut request = LeaseRequest::new(consumer.clone(), limit_or(1, max));
    request.visibility_timeout = visibility_timeout.map(|time| *time);
    // Only a consumer that sends its id can be recognized later. A lease request without a consumer id comes from a new
    // consumer, which owns an exclusive queue only while it has leases.
    if !has_sent_id {
        request = request.without_owner_timeout();
    }
    let lease_memory = Arc::new(LeaseMemory::new(responder.clone(), request.max));
    let receive_result =
        app.long_poll.receive_within(&queue, request, wait, Arc::<LeaseMemory>::clone(&lease_memory)).await;
    let (deliveries, reserved) = match (receive_result, lease_memory.take_reserved_memory()) {
        (Err(Error::Overloaded), Some(Err(problem))) => return Err(problem),
        (receive_result, outcome) => (receive_result.map_err(errors::queue_error)?, outcome.and_then(Result::ok)),
    };
    let received_body = Received { consumer, messages: deliveries.into_iter().map(LeasedMessage::from).collect() };
    match reserved {
        Some(reserved) => reserved.json_response(&received_body),
        None => responder.respond_to_change(&received_body, 0),
    }
}

/// Complete a message
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases/complete", request_body(content = Complete, description = "The lease to complete"),
    responses((status = 200, description = "The outcome of the lease", body = LeaseResult)),
)]
async fn complete_lease(path: QueuePath, _: NoQuery, JsonBody(body): JsonBody) -> Result<Json<LeaseResult>> {
    settle_one(&path.queue, Settlement::Complete, &body).await
}

/// Fail an attempt
///
/// While the message has attempts left, it can be received again after its back-off.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases/fail", request_body(content = Fail, description = "The lease whose attempt failed"),
    responses((status = 200, description = "The outcome of the lease", body = LeaseResult)),
)]
async fn fail_lease(path: QueuePath, _: NoQuery, JsonBody(body): JsonBody) -> Result<Json<LeaseResult>> {
    settle_one(&path.queue, Settlement::Fail, &body).await
}

/// Release a message
///
/// Releases a message on which no attempt was made. The message returns to the head of the waiting list, or becomes delayed by
/// `delay`, or held for the signal `hold`.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases/release", request_body(content = Release, description = "The lease to release"),
    responses((status = 200, description = "The outcome of the lease", body = LeaseResult)),
)]
async fn release_lease(path: QueuePath, _: NoQuery, JsonBody(body): JsonBody) -> Result<Json<LeaseResult>> {
    settle_one(&path.queue, Settlement::Release, &body).await
}

/// Extend a lease
///
/// A lease lasts no longer than the time-out of the run that it belongs to.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases/extend", request_body(content = Extend, description = "The lease to extend"),
    responses((status = 200, description = "The outcome of the lease", body = LeaseResult)),
)]
async fn extend_lease(path: QueuePath, _: NoQuery, JsonBody(body): JsonBody) -> Result<Json<LeaseResult>> {
    settle_one(&path.queue, Settlement::Extend, &body).await
}

/// Settle many leases
///
/// Each lease is settled independently. A lease that is over has the outcome `gone`.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/leases/settle", request_body(content = Settle, description = "The leases to settle or extend"),
    responses((status = 200, description = "The outcome of each lease", body = LeaseResults)),
)]
async fn settle_leases(
    path: QueuePath,
    _: NoQuery,
    responder: Responder,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    let Settle { settlements } = json::parse_body(&body)?;
    if settlements.is_empty() || settlements.len() > Queue::MAX_MESSAGES {
        return Err(errors::too_many_settlements(settlements.len()));
    }
    responder.respond_to_change(&LeaseResults { settlements: settle_all(&path.queue, settlements).await? }, 0)
}

async fn settle_one<T: Body>(queue: &Queue, action: fn(T) -> Settlement, body: &[u8]) -> Result<Json<LeaseResult>> {
    let settlement = action(json::parse_body(body)?);
    let result = settle_all(queue, vec![settlement]).await?.pop().ok_or(errors::INTERNAL_ERROR)?;
    if result.outcome == Outcome::Gone { Err(errors::LEASE_GONE.into()) } else { Ok(Json(result)) }
}

/// Settles and extends leases independently, and returns a result for each lease, in the same order.
async fn settle_all(queue: &Queue, settlements: Vec<Settlement>) -> Result<Vec<LeaseResult>> {
    let mut results: Vec<Option<LeaseResult>> = settlements.iter().map(|_| None).collect();
    let mut lease_ends = Vec::new();
    let mut extensions: BTreeMap<Option<Millis>, Vec<Extension>> = BTreeMap::new();
    for (index, settlement) in settlements.into_iter().enumerate() {
        match settlement.into() {
            LeaseAction::End(end) => lease_ends.push((index, end)),
            LeaseAction::Extend(Extend { lease, visibility_timeout, progress, .. }) => {
                let extension = Extension { index, lease, progress };
                extensions.entry(visibility_timeout.map(|time| *time)).or_default().push(extension);
            }
        }
    }
    // One call extends all leases with the same visibility timeout.
    for (visibility_timeout, group) in extensions {
        for (index, result) in extend_leases(queue, visibility_timeout, group).await? {
            results[index] = Some(result);
        }
    }
    let (indices, settlements): (Vec<usize>, Vec<queue_core::Settlement>) = lease_ends.into_iter().unzip();
    let settle_outcomes = queue.settle(&settlements).await.map_err(errors::queue_error)?;
    for ((index, end), new_state) in indices.into_iter().zip(settlements).zip(settle_outcomes) {
        let outcome = new_state.map_or(Outcome::Gone, Outcome::from);
        results[index] =
            Some(LeaseResult { lease: end.lease, outcome, lease_expires_at: None, cancel_requested: None });
    }
    results.into_iter().map(|result| Ok(result.ok_or(errors::INTERNAL_ERROR)?)).collect()
}

struct Extension {
    index: usize,
    lease: LeaseToken,
    progress: Option<Box<RawValue>>,
}

async fn extend_leases(
    queue: &Queue,
    visibility_timeout: Option<Millis>,
    group: Vec<Extension>,
) -> Result<Vec<(usize, LeaseResult)>> {
    let leases: Vec<LeaseToken> = group.iter().map(|extension| extension.lease.clone()).collect();
    let extend_outcomes = queue.extend(&leases, visibility_timeout).await.map_err(errors::queue_error)?;
    let mut results = Vec::with_capacity(group.len());
    for (Extension { index, lease, progress }, extend_outcomes) in group.into_iter().zip(extend_outcomes) {
        let (mut outcome, lease_expires_at, cancel_requested) = match extend_outcomes {
            Extended::Until(deadline) => (Outcome::Extended, Some(deadline), None),
            Extended::ToBeCancelled(deadline) => (Outcome::Extended, Some(deadline), Some(True)),
            Extended::LeaseOver => (Outcome::Gone, None, None),
        };
        if let (Outcome::Extended, Some(progress)) = (outcome, progress)
            && !queue.report_progress(&lease, &progress).await.map_err(errors::queue_error)?
        {
            outcome = Outcome::Gone;
        }
        results.push((index, LeaseResult { lease, outcome, lease_expires_at, cancel_requested }));
    }
    Ok(results)
}

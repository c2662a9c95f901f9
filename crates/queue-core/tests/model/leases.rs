//! Operations on leases, executed on the real queue and on the model.

use queue_core::{Action, Error, Failure, LeaseRequest, Millis, Settlement};
use serde_json::{Value, json};

use crate::{
    answers::{show_extended, show_leased, show_settled},
    leasing::Request,
    model_json::{consumer, hold_key},
    operation::LeaseChoice,
    queue_and_model::QueueAndModel,
    run_operation::{raw, unexpected},
    settling::{LeaseAction, error_of, result_of},
};

impl QueueAndModel {
    pub(crate) async fn lease(&mut self, request: &Request) -> Result<(Value, Value), String> {
        let leased = self.queue.lease(&lease_request(request)).await;
        let call = self.model.calls;
        let expected = self.model.lease(request);
        let (mut leased, expected) = match (leased, expected) {
            (Err(Error::NoSuchQueue), None) => return Ok((Value::Null, Value::Null)),
            (Err(error), _) => return Err(unexpected(error)),
            (Ok(leased), Some(expected)) => (leased, expected),
            (Ok(_), None) => return Err("a lease created a queue".to_owned()),
        };
        if self.rechecks_lost_leases {
            leased.call_again_in = None;
        }
        for (number, delivery) in expected.taken.iter().zip(&leased.deliveries) {
            self.learn_token(*number, call, request.consumer, delivery.lease.clone());
        }
        // All idle consumers have a timer for `watch`, so an answer may name it as the time of the next call.
        let watch = self.watch().filter(|watch| *watch > self.model.now());
        let next = expected
            .next_call
            .into_iter()
            .chain(watch)
            .min()
            .filter(|_| expected.has_next_call && !self.rechecks_lost_leases);
        let next = json!(next.map(|next| self.model.micros_until(next)));
        let model = json!({"leased": expected.answer, "call_again_in": next});
        Ok((show_leased(&leased), model))
    }

    pub(crate) async fn lease_and_lose_answer(&mut self, request: &Request) -> Result<(Value, Value), String> {
        let queue = self.queue.clone();
        queue.return_lost_leases().await.map_err(unexpected)?;
        if !self.model.exists || !self.model.has_declared {
            queue.declare().await.map_err(unexpected)?;
            self.model.declare();
        }
        self.run_and_lose_answer(1, queue.lease(&lease_request(request))).await?;
        let call = self.model.calls;
        self.model.lease(request);
        self.model.lost.push(call);
        self.rechecks_lost_leases = true;
        Ok((Value::Null, Value::Null))
    }

    pub(crate) async fn settle(
        &mut self,
        settlements: &[(LeaseChoice, LeaseAction)],
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let (mut of_model, mut of_queue) = (vec![], vec![]);
        for (choice, action) in settlements {
            if let Some((token, lease)) = self.choose_lease(*choice) {
                of_model.push((token, *action));
                of_queue.push(Settlement { lease, action: to_settle_action(*action, token.call) });
            }
        }
        *description = format!("Settle({of_model:?})");
        let settled = self.queue.settle(&of_queue).await.map_err(unexpected)?;
        // `settle` of an empty list calls no script.
        let model = if of_model.is_empty() { vec![] } else { self.model.settle(&of_model) };
        Ok((settled.into_iter().map(show_settled).collect(), model.into()))
    }

    pub(crate) async fn extend(
        &mut self,
        choices: &[LeaseChoice],
        time: Option<u64>,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let chosen: Vec<_> = choices.iter().filter_map(|choice| self.choose_lease(*choice)).collect();
        let (tokens, leases): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        *description = format!("Extend({tokens:?}, {time:?})");
        let extended = self.queue.extend(&leases, time.map(Millis::new)).await.map_err(unexpected)?;
        Ok((extended.into_iter().map(show_extended).collect(), self.model.extend(&tokens, time).into()))
    }

    pub(crate) async fn undo_leases(
        &mut self,
        choices: &[LeaseChoice],
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let chosen: Vec<_> = choices.iter().filter_map(|choice| self.choose_lease(*choice)).collect();
        let (tokens, leases): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        *description = format!("UndoLeases({tokens:?})");
        let undone = self.queue.undo_leases(&leases).await.map_err(unexpected)?;
        Ok((json!(undone), json!(self.model.undo_leases(&tokens))))
    }

    pub(crate) async fn report(
        &mut self,
        choice: LeaseChoice,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let Some((token, lease)) = self.choose_lease(choice) else { return Ok((Value::Null, Value::Null)) };
        *description = format!("Report({token:?})");
        let progress = format!("[{}]", token.call);
        let reported = self.queue.report_progress(&lease, &raw(&progress)).await.map_err(unexpected)?;
        Ok((json!(reported), json!(self.model.report(token, &progress))))
    }
}

fn lease_request(request: &Request) -> LeaseRequest {
    let mut lease = LeaseRequest::new(consumer(request.consumer).parse().unwrap(), request.max);
    lease.visibility_timeout = request.visibility_timeout.map(Millis::new);
    if request.without_owner_timeout { lease.without_owner_timeout() } else { lease }
}

fn to_settle_action(action: LeaseAction, call: usize) -> Action {
    let failure = || serde_json::from_str::<Failure>(&error_of(call)).unwrap();
    match action {
        LeaseAction::Complete => Action::Complete(raw(&result_of(call))),
        LeaseAction::Fail => Action::Fail(failure()),
        LeaseAction::FailWithPause(pause) => Action::FailAndRetryAfter(failure(), Millis::new(pause)),
        LeaseAction::FailForGood => Action::FailForGood(failure()),
        LeaseAction::Release => Action::Release(None),
        LeaseAction::ReleaseWithPause(pause) => Action::Release(Some(Millis::new(pause))),
        LeaseAction::Hold(key) => Action::Hold(hold_key(key).parse().unwrap()),
    }
}

//! Operations on leases, executed on the real queue and on the model.

use queue_core::{Action, Error, Failure, LeaseRequest, Millis, Settlement};
use serde_json::{Value, json};

use crate::{
    answers::{show_extended, show_leased, show_settled},
    leasing::Request,
    model_json::{consumer_id, hold_key},
    operation::LeaseChoice,
    queue_and_model::QueueAndModel,
    run_operation::{raw_json, unexpected_answer},
    settling::{LeaseAction, error_of, result_of},
};

impl QueueAndModel {
    pub(crate) async fn lease(&mut self, request: &Request) -> Result<(Value, Value), String> {
        let real_lease = self.queue.lease(&lease_request(request)).await;
        let call = self.model.calls;
        let model_lease = self.model.lease(request);
        let (mut real_lease, model_lease) = match (real_lease, model_lease) {
            (Err(Error::NoSuchQueue), None) => return Ok((Value::Null, Value::Null)),
            (Err(error), _) => return Err(unexpected_answer(error)),
            (Ok(real_lease), Some(model_lease)) => (real_lease, model_lease),
            (Ok(_), None) => return Err("a lease created a queue".to_owned()),
        };
        if self.rechecks_lost_leases {
            real_lease.call_again_in = None;
        }
        for (number, delivery) in model_lease.taken.iter().zip(&real_lease.deliveries) {
            self.learn_token(*number, call, request.consumer, delivery.lease.clone());
        }
        // The timer of the queue wakes all idle consumers at one instant. The answer to a lease call may name this instant of
        // the timer as the time of the next lease call.
        let timer = self.idle_consumers_timer().filter(|timer| *timer > self.model.now());
        let next_call = model_lease
            .next_call
            .into_iter()
            .chain(timer)
            .min()
            .filter(|_| model_lease.has_next_call && !self.rechecks_lost_leases);
        let next_call = json!(next_call.map(|instant| self.model.micros_until(instant)));
        let model_answer = json!({"leased": model_lease.answer, "call_again_in": next_call});
        Ok((show_leased(&real_lease), model_answer))
    }

    pub(crate) async fn lease_and_lose_answer(&mut self, request: &Request) -> Result<(Value, Value), String> {
        let queue = self.queue.clone();
        queue.return_lost_leases().await.map_err(unexpected_answer)?;
        if !self.model.exists || !self.model.has_declared {
            queue.declare().await.map_err(unexpected_answer)?;
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
        let (mut model_settlements, mut real_settlements) = (vec![], vec![]);
        for (choice, action) in settlements {
            if let Some((token, lease)) = self.choose_lease(*choice) {
                model_settlements.push((token, *action));
                real_settlements.push(Settlement { lease, action: to_settle_action(*action, token.call) });
            }
        }
        *description = format!("Settle({model_settlements:?})");
        let settle_outcomes = self.queue.settle(&real_settlements).await.map_err(unexpected_answer)?;
        // `settle` of an empty list calls no script.
        let model_outcomes = if model_settlements.is_empty() { vec![] } else { self.model.settle(&model_settlements) };
        Ok((settle_outcomes.into_iter().map(show_settled).collect(), model_outcomes.into()))
    }

    pub(crate) async fn extend(
        &mut self,
        choices: &[LeaseChoice],
        time: Option<u64>,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let chosen_leases: Vec<_> = choices.iter().filter_map(|choice| self.choose_lease(*choice)).collect();
        let (tokens, leases): (Vec<_>, Vec<_>) = chosen_leases.into_iter().unzip();
        *description = format!("Extend({tokens:?}, {time:?})");
        let extend_outcomes = self.queue.extend(&leases, time.map(Millis::new)).await.map_err(unexpected_answer)?;
        Ok((extend_outcomes.into_iter().map(show_extended).collect(), self.model.extend(&tokens, time).into()))
    }

    pub(crate) async fn undo_leases(
        &mut self,
        choices: &[LeaseChoice],
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let chosen_leases: Vec<_> = choices.iter().filter_map(|choice| self.choose_lease(*choice)).collect();
        let (tokens, leases): (Vec<_>, Vec<_>) = chosen_leases.into_iter().unzip();
        *description = format!("UndoLeases({tokens:?})");
        let undone_count = self.queue.undo_leases(&leases).await.map_err(unexpected_answer)?;
        Ok((json!(undone_count), json!(self.model.undo_leases(&tokens))))
    }

    pub(crate) async fn report(
        &mut self,
        choice: LeaseChoice,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let Some((token, lease)) = self.choose_lease(choice) else { return Ok((Value::Null, Value::Null)) };
        *description = format!("Report({token:?})");
        let progress = format!("[{}]", token.call);
        let is_reported = self.queue.report_progress(&lease, &raw_json(&progress)).await.map_err(unexpected_answer)?;
        Ok((json!(is_reported), json!(self.model.report(token, &progress))))
    }
}

fn lease_request(request: &Request) -> LeaseRequest {
    let mut real_request = LeaseRequest::new(consumer_id(request.consumer).parse().unwrap(), request.max);
    real_request.visibility_timeout = request.visibility_timeout.map(Millis::new);
    if request.without_owner_timeout { real_request.without_owner_timeout() } else { real_request }
}

fn to_settle_action(action: LeaseAction, call: usize) -> Action {
    let failure = || serde_json::from_str::<Failure>(&error_of(call)).unwrap();
    match action {
        LeaseAction::Complete => Action::Complete(raw_json(&result_of(call))),
        LeaseAction::Fail => Action::Fail(failure()),
        LeaseAction::FailWithPause(pause) => Action::FailAndRetryAfter(failure(), Millis::new(pause)),
        LeaseAction::FailForGood => Action::FailForGood(failure()),
        LeaseAction::Release => Action::Release(None),
        LeaseAction::ReleaseWithPause(pause) => Action::Release(Some(Millis::new(pause))),
        LeaseAction::Hold(key) => Action::Hold(hold_key(key).parse().unwrap()),
    }
}

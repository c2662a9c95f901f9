//! Compares the real queue with the model after each step: messages, lists, status, events, and the audit. After the last step
//! the test compares the keys that are left in Redis.

use std::collections::BTreeMap;

use deadpool_redis::redis::{self, Value as Reply};
use queue_core::{ConsumerId, Error, LeaseRequest, MessageRef, State};
use serde_json::{Value, json};

use crate::{
    answers::show_message,
    message::Number,
    model_json::{STATES, own_id},
    queue_and_model::QueueAndModel,
    schedules::schedule_name,
};

type Difference = Result<(), String>;

impl QueueAndModel {
    pub(crate) async fn compare(&mut self) -> Difference {
        self.compare_messages().await?;
        self.compare_status().await?;
        self.compare_names().await?;
        self.compare_events().await?;
        self.compare_schedules(1 + self.ids.len() % 3).await?;
        for (nth, state) in STATES.into_iter().enumerate() {
            self.compare_list(state, 1 + (self.ids.len() + nth) % 4).await?;
        }
        let audit = self.queue.audit().await.map_err(|error| error.to_string())?;
        match audit.findings.first() {
            Some(finding) => Err(format!("the audit says: {}", self.translate(&finding.to_string()))),
            None => Ok(()),
        }
    }

    /// Compares all events since the log began.
    async fn compare_events(&self) -> Difference {
        let (Some(begin), Some(events)) = (self.log_begins_at, &self.model.log.events) else { return Ok(()) };
        let found = self.queue.all_events_after(begin).await.map_err(|error| error.to_string())?;
        let found = found.ok_or("the log of events has a gap")?;
        let real: Vec<Value> = found.iter().map(|event| serde_json::from_str(event.json()).unwrap()).collect();
        check_equal("the events", &self.translate_json(&json!(real)), &json!(events))
    }

    /// Ends all messages, and checks that Redis has only the keys that an empty queue has.
    pub(crate) async fn compare_leftovers(&mut self) -> Difference {
        const KEYS_OF_AN_EMPTY_QUEUE: [&str; 5] =
            ["drover:queues", "drover:{q}:clock", "drover:{q}:events", "drover:{q}:meta", "drover:{q}:seq"];
        let ending = async {
            if self.queue.status().await?.is_some() {
                self.queue.resume().await?;
                let plain = json!({"rate_limit": null, "exclusive": null});
                self.queue.configure(&plain).await?;
            }
            for key in 0..3 {
                self.queue.delete_schedule(&schedule_name(key).parse().unwrap()).await?;
            }
            self.queue.read_schedules_to_tick().await?;
            // Six rounds are enough to undo a lost lease, to let the leases of a message lapse `max_lapses` times, and to purge the
            // failed message.
            for _ in 0..6 {
                // Within 40 days all retention periods, windows and sticky signals end.
                self.model.micros += 40 * 24 * 3_600 * 1_000_000;
                self.set_clock();
                for state in State::ALL.iter().copied() {
                    self.queue.purge(state).await?;
                }
                let request = LeaseRequest::new(ConsumerId::issue(), 1);
                match self.queue.lease(&request).await {
                    Ok(_) | Err(Error::NoSuchQueue) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        ending.await.map_err(|error: Error| error.to_string())?;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.raw).map_err(|error| error.to_string())?;
        let left: Vec<String> =
            keys.into_iter().filter(|key| !KEYS_OF_AN_EMPTY_QUEUE.contains(&key.as_str())).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", "))) }
    }

    /// Compares whether the index of queues, and the index of queues with schedules, have the name of the queue.
    async fn compare_names(&mut self) -> Difference {
        let names = self.queues.names().await.map_err(|error| error.to_string())?;
        check_equal("the names of queues", &json!(names), &json!(self.model.is_listed.then_some("q").as_slice()))?;
        let mut read = redis::cmd("ZRANGE");
        let names: Vec<String> =
            read.arg("drover:schedules").arg(0).arg(-1).query(&mut self.raw).map_err(|error| error.to_string())?;
        let expected = self.model.is_listed_with_schedules.then_some("q");
        check_equal("the names of queues with schedules", &json!(names), &json!(expected.as_slice()))
    }

    /// Compares all schedules, read page by page.
    async fn compare_schedules(&self, page: usize) -> Difference {
        // The list of schedules stays null if the queue does not exist.
        let mut listed = Value::Null;
        let mut after = None;
        while let Some((page, has_more)) =
            self.queue.schedules(after.as_ref(), page).await.map_err(|error| error.to_string())?
        {
            after = page.last().map(|last| last.name.clone());
            listed =
                listed.as_array().into_iter().flatten().cloned().chain(page.iter().map(|one| json!(one))).collect();
            if !has_more {
                break;
            }
        }
        check_equal("the schedules", &self.translate_json(&listed), &self.model.show_schedules())
    }

    /// The instant (ms) for which all idle consumers have a timer.
    pub(crate) fn watch(&mut self) -> Option<u64> {
        let watch: Reply = redis::cmd("HGET").arg("drover:{q}:meta").arg("watch").query(&mut self.raw).unwrap();
        redis::from_redis_value(watch).unwrap_or_default()
    }

    /// Compares every message that was ever posted, by Drover's id and by its own id.
    async fn compare_messages(&self) -> Difference {
        let by_id = (0..self.ids.len()).map(|number| (self.ids[number].clone(), Some(number)));
        let by_own_id = (0..4).map(|own| (MessageRef::Own(own_id(own).parse().unwrap()), self.model.find_own_id(own)));
        let (refs, numbers): (Vec<_>, Vec<_>) = by_id.chain(by_own_id).unzip();
        let found = self.queue.read(&refs).await.map_err(|error| error.to_string())?;
        for ((message, number), reference) in found.iter().zip(numbers).zip(refs) {
            let real = message.as_ref().map_or(Value::Null, show_message);
            check_equal(
                &format!("reading {reference}"),
                &self.translate_json(&real),
                &self.model.show_if_kept(number),
            )?;
        }
        Ok(())
    }

    async fn compare_status(&self) -> Difference {
        let status = self.queue.status().await.map_err(|error| error.to_string())?;
        let real = status.map(|status| {
            let counts: BTreeMap<_, _> =
                State::ALL.iter().copied().map(|state| (state.as_str(), status.counts.of(state))).collect();
            json!({
                "paused": status.paused,
                "counts": counts,
                "oldest_waiting_age": status.oldest_waiting_age,
                "settings": status.settings,
                "totals": status.totals,
                "schedules": status.schedules,
            })
        });
        check_equal("the status", &json!(real), &self.model.status())
    }

    /// Compares the list of a state, read page by page.
    async fn compare_list(&self, state: &str, page: usize) -> Difference {
        let mut listed = vec![];
        let mut cursor = None;
        loop {
            let page = self.queue.list(state.parse().unwrap(), page, cursor.as_deref()).await;
            let page = page.map_err(|error| error.to_string())?;
            listed.extend(page.messages.iter().map(|message| self.number_of(&message.id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let expected: Vec<Option<Number>> = self.model.list(state).into_iter().map(Some).collect();
        if state == "waiting" && listed.len() == expected.len() {
            // Redis lists the first messages of the groups in the order of a hash, which is arbitrary, so they are sorted before the
            // comparison.
            let (heads, rest) = (self.model.group_heads().len(), self.model.group_rest().len());
            let begin = listed.len() - rest - heads;
            listed[begin..begin + heads].sort_unstable();
        }
        check_equal(&format!("the list of {state}, {page} a page"), &json!(listed), &json!(expected))
    }
}

pub(crate) fn check_equal(what: &str, real: &Value, model: &Value) -> Difference {
    if real == model {
        return Ok(());
    }
    // Only the first field that differs is reported, because answers can be large.
    if let (Value::Object(real), Value::Object(model)) = (real, model) {
        for (field, value) in model {
            check_equal(&format!("{what}, {field}"), real.get(field).unwrap_or(&Value::Null), value)?;
        }
    }
    Err(format!("{what}\n      should be {model}\n             is {real}"))
}

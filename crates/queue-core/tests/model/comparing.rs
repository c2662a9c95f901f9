//! Compares the real queue with the model after each step: messages, lists, status, events, and the audit. After the last step
//! the test compares the keys that are left in Redis.

use std::collections::{BTreeMap, VecDeque};

use deadpool_redis::redis::{self, Value as Reply};
use queue_core::{ConsumerId, Error, LeaseRequest, MessageRef, State};
use serde_json::{Value, json};

use crate::{
    answers::show_message,
    groups::Group,
    message::MessageNumber,
    model_json::{STATES, group_key, own_id},
    queue_and_model::QueueAndModel,
    schedules::schedule_name,
};

type ComparisonResult = Result<(), String>;

impl QueueAndModel {
    pub(crate) async fn compare(&mut self) -> ComparisonResult {
        self.compare_messages().await?;
        self.compare_status().await?;
        self.compare_names().await?;
        self.compare_events().await?;
        self.compare_turns()?;
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

    /// Compares the turns, which are the members of `turns` and the single groups of `single_turns`, in the order of the turns' numbers.
    /// Drover does not promise in which order the groups of one post get their turns, so the model adopts the real order of new turns.
    fn compare_turns(&mut self) -> ComparisonResult {
        let single_ids: Vec<String> =
            self.read_raw(redis::cmd("LRANGE").arg("drover:{q}:single_turns").arg(0).arg(-1))?;
        let scored: Vec<(String, f64)> =
            self.read_raw(redis::cmd("ZRANGE").arg("drover:{q}:turns").arg(0).arg(-1).arg("WITHSCORES"))?;
        let stored_groups: BTreeMap<String, String> = self.read_raw(redis::cmd("HGETALL").arg("drover:{q}:groups"))?;
        let mut real_turns: Vec<(f64, String)> = scored.into_iter().map(|(name, turn)| (turn, name)).collect();
        let single_groups = stored_groups.into_iter().filter(|(_, stored)| single_ids.contains(stored));
        real_turns.extend(single_groups.map(|(name, id)| (id.parse().unwrap(), name)));
        real_turns.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let real_turns: Vec<String> = real_turns.into_iter().map(|(_, name)| name).collect();
        let known_count = self.model.turns.len() - self.model.new_turn_count;
        let keys_by_name: BTreeMap<String, Group> =
            self.model.turns.iter().map(|group| (group.map_or_else(String::new, group_key), *group)).collect();
        let new_turns = real_turns.iter().skip(known_count).map_while(|name| keys_by_name.get(name).copied());
        let model_turns: VecDeque<Group> =
            self.model.turns.iter().take(known_count).copied().chain(new_turns).collect();
        let model_names: Vec<String> =
            model_turns.iter().map(|group| group.map_or_else(String::new, group_key)).collect();
        check_equal("the turns", &json!(real_turns), &json!(model_names))?;
        check_equal("the number of turns", &json!(real_turns.len()), &json!(self.model.turns.len()))?;
        (self.model.turns, self.model.new_turn_count) = (model_turns, 0);
        Ok(())
    }

    fn read_raw<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, String> {
        command.query(&mut self.raw).map_err(|error| error.to_string())
    }

    /// Compares all events since the log began.
    async fn compare_events(&self) -> ComparisonResult {
        let (Some(log_start), Some(events)) = (self.log_begins_at, &self.model.log.events) else { return Ok(()) };
        let real_events = self.queue.all_events_after(log_start).await.map_err(|error| error.to_string())?;
        let real_events = real_events.ok_or("the log of events has a gap")?;
        let real_json: Vec<Value> =
            real_events.iter().map(|event| serde_json::from_str(event.json()).unwrap()).collect();
        check_equal("the events", &self.translate_json(&json!(real_json)), &json!(events))
    }

    /// Ends all messages, and checks that Redis has only the keys that an empty queue has.
    pub(crate) async fn compare_leftovers(&mut self) -> ComparisonResult {
        const KEYS_OF_AN_EMPTY_QUEUE: [&str; 5] =
            ["drover:queues", "drover:{q}:clock", "drover:{q}:events", "drover:{q}:meta", "drover:{q}:seq"];
        let end_all_messages = async {
            if self.queue.status().await?.is_some() {
                self.queue.resume().await?;
                let settings_without_limits = json!({"rate_limit": null, "exclusive": null});
                self.queue.configure(&settings_without_limits).await?;
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
        end_all_messages.await.map_err(|error: Error| error.to_string())?;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.raw).map_err(|error| error.to_string())?;
        let leftover_keys: Vec<String> =
            keys.into_iter().filter(|key| !KEYS_OF_AN_EMPTY_QUEUE.contains(&key.as_str())).collect();
        if leftover_keys.is_empty() { Ok(()) } else { Err(format!("left behind: {}", leftover_keys.join(", "))) }
    }

    /// Compares whether the index of queues, and the index of queues with schedules, have the name of the queue.
    async fn compare_names(&mut self) -> ComparisonResult {
        let names = self.queues.names().await.map_err(|error| error.to_string())?;
        check_equal("the names of queues", &json!(names), &json!(self.model.is_listed.then_some("q").as_slice()))?;
        let mut read_command = redis::cmd("ZRANGE");
        let names: Vec<String> = read_command
            .arg("drover:schedules")
            .arg(0)
            .arg(-1)
            .query(&mut self.raw)
            .map_err(|error| error.to_string())?;
        let expected_name = self.model.is_listed_with_schedules.then_some("q");
        check_equal("the names of queues with schedules", &json!(names), &json!(expected_name.as_slice()))
    }

    /// Compares all schedules, read page by page.
    async fn compare_schedules(&self, page: usize) -> ComparisonResult {
        // The list of schedules stays null if the queue does not exist.
        let mut listed_schedules = Value::Null;
        let mut last_name = None;
        while let Some((page, has_more)) =
            self.queue.schedules(last_name.as_ref(), page).await.map_err(|error| error.to_string())?
        {
            last_name = page.last().map(|last| last.name.clone());
            listed_schedules = listed_schedules
                .as_array()
                .into_iter()
                .flatten()
                .cloned()
                .chain(page.iter().map(|one| json!(one)))
                .collect();
            if !has_more {
                break;
            }
        }
        check_equal("the schedules", &self.translate_json(&listed_schedules), &self.model.schedules_json())
    }

    /// The instant (ms) for which all idle consumers have a timer.
    pub(crate) fn idle_consumers_timer(&mut self) -> Option<u64> {
        let timer: Reply = redis::cmd("HGET").arg("drover:{q}:meta").arg("watch").query(&mut self.raw).unwrap();
        redis::from_redis_value(timer).unwrap_or_default()
    }

    /// Compares every message that was ever posted, by Drover's id and by its own id.
    async fn compare_messages(&self) -> ComparisonResult {
        let references_by_id = (0..self.ids.len()).map(|number| (self.ids[number].clone(), Some(number)));
        let references_by_own_id =
            (0..4).map(|own| (MessageRef::Own(own_id(own).parse().unwrap()), self.model.find_by_own_id(own)));
        let (references, numbers): (Vec<_>, Vec<_>) = references_by_id.chain(references_by_own_id).unzip();
        let found_messages = self.queue.read(&references).await.map_err(|error| error.to_string())?;
        for ((message, number), reference) in found_messages.iter().zip(numbers).zip(references) {
            let real_json = message.as_ref().map_or(Value::Null, show_message);
            check_equal(
                &format!("reading {reference}"),
                &self.translate_json(&real_json),
                &self.model.message_json_if_kept(number),
            )?;
        }
        Ok(())
    }

    async fn compare_status(&self) -> ComparisonResult {
        let status = self.queue.status().await.map_err(|error| error.to_string())?;
        let real_json = status.map(|status| {
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
        check_equal("the status", &json!(real_json), &self.model.status())
    }

    /// Compares the list of a state, read page by page.
    async fn compare_list(&self, state: &str, page: usize) -> ComparisonResult {
        let mut listed_numbers = vec![];
        let mut cursor = None;
        loop {
            let page = self.queue.list(state.parse().unwrap(), page, cursor.as_deref()).await;
            let page = page.map_err(|error| error.to_string())?;
            listed_numbers.extend(page.messages.iter().map(|message| self.number_of(&message.id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let expected_numbers: Vec<Option<MessageNumber>> = self.model.list(state).into_iter().map(Some).collect();
        if state == "waiting" && listed_numbers.len() == expected_numbers.len() {
            // Redis lists the first messages of the groups in the order of a hash, which is arbitrary, so they are sorted before the
            // comparison.
            let (heads, rest) = (self.model.group_heads().len(), self.model.group_rest().len());
            let heads_start = listed_numbers.len() - rest - heads;
            listed_numbers[heads_start..heads_start + heads].sort_unstable();
        }
        check_equal(&format!("the list of {state}, {page} a page"), &json!(listed_numbers), &json!(expected_numbers))
    }
}

pub(crate) fn check_equal(what: &str, real: &Value, model: &Value) -> ComparisonResult {
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

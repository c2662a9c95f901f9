//! The real queue beside the model, and the names that both use for ids and leases.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use deadpool_redis::redis;
use queue_core::{
    KnownSchedules, LeaseToken, MessageRef, Queue, QueueName, Queues, Redis, feed::EventId, settings::SettingsPatch,
};
use serde_json::Value;
use tokio::task::yield_now;

use crate::{
    message::{LeaseCall, MessageNumber},
    model::Model,
    model_json::own_id,
    operation::{LeaseChoice, MessageChoice},
    posting::shown_id,
    schedules::revision_name,
    settings::DECLARED_SETTINGS,
    settling::Token,
};

/// The instant (µs) at which each generated test case begins: in 2026, not on a whole millisecond.
const START_MICROS: u64 = 1_795_424_400_000_123;

/// A queue in Redis, and the model of it.
pub(crate) struct QueueAndModel {
    pub(crate) model: Model,
    redis: Redis,
    pub(crate) queues: Queues,
    pub(crate) queue: Arc<Queue>,
    /// A connection of the test, which sets the clock and reads keys.
    pub(crate) raw: redis::Connection,
    /// Drover's ids of the messages, by the messages' numbers.
    pub(crate) ids: Vec<MessageRef>,
    /// Every lease whose token a consumer still has.
    pub(crate) known_leases: Vec<KnownLease>,
    /// Whether the reply to a lease call was lost. After a lost reply, the library searches a second time for the leases of the
    /// call, 5 s later by the real clock, which the model does not know.
    pub(crate) rechecks_lost_leases: bool,
    /// The id after which the log of events begins, if there is a log.
    pub(crate) log_begins_at: Option<EventId>,
    /// The schedules as each process that posts ticks knows them.
    pub(crate) known_schedules: HashMap<u8, KnownSchedules>,
    /// The name that the model of the queue uses for each message id and each revision of a schedule that Drover's
    /// answers may have.
    names: HashMap<String, String>,
}

/// A lease whose token a consumer has.
pub(crate) struct KnownLease {
    pub(crate) token: Token,
    pub(crate) consumer: u8,
    pub(crate) lease: LeaseToken,
}

impl QueueAndModel {
    pub(crate) fn new(redis: &Redis, url: &str) -> Self {
        let mut raw = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("FLUSHALL").exec(&mut raw).unwrap();
        let queues = new_queues(redis);
        Self {
            model: Model { micros: START_MICROS, latest_micros: START_MICROS, ..Model::default() },
            redis: redis.clone(),
            queue: queues.queue(&queue_name()),
            queues,
            raw,
            ids: vec![],
            known_leases: vec![],
            rechecks_lost_leases: false,
            log_begins_at: None,
            known_schedules: HashMap::new(),
            names: HashMap::new(),
        }
    }

    pub(crate) fn redis(&self) -> Redis {
        self.redis.clone()
    }

    pub(crate) fn set_clock(&mut self) {
        redis::cmd("SET").arg("drover:{q}:clock").arg(self.model.micros).exec(&mut self.raw).unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.queues = new_queues(&self.redis);
        self.queue = self.queues.queue(&queue_name());
        self.model.was_used = false;
        self.model.has_declared = false;
        self.model.lost.clear();
    }

    /// Adds the ids of the last `count` stored messages to `ids`.
    pub(crate) fn learn_ids(&mut self, count: usize) -> Result<(), String> {
        if count == 0 {
            return Ok(());
        }
        let last_id: Option<String> = redis::cmd("GET").arg("drover:{q}:seq").query(&mut self.raw).unwrap();
        let last_id: u64 =
            last_id.unwrap_or_default().parse().map_err(|_| "the value of the key seq is no number".to_owned())?;
        let id_before = self.ids.last().map_or(0, |id| id.as_str().parse().unwrap());
        // The expected id is the time in units of 10 µs since 2020, or the previous id plus 1 if that is more.
        let expected_id = (self.model.micros / 10 - 157_783_680_000_000).max(id_before + 1);
        let first_id = last_id + 1 - count as u64;
        if first_id != expected_id {
            return Err(format!("the next id should be {expected_id}, is {first_id}"));
        }
        for id in first_id..=last_id {
            let id = format!("{id:014}");
            self.names.insert(id.clone(), shown_id(self.ids.len()));
            self.ids.push(id.parse().unwrap());
        }
        Ok(())
    }

    pub(crate) fn learn_token(&mut self, number: MessageNumber, call: LeaseCall, consumer: u8, lease: LeaseToken) {
        self.known_leases.push(KnownLease { token: Token { number, call }, consumer, lease });
    }

    /// Notes the revision that a schedule got with its last definition.
    pub(crate) fn learn_revision(&mut self, known: &KnownSchedules, schedule: &str, definition: usize) {
        for (_, revision) in known.revisions().filter(|(name, _)| name.as_str() == schedule) {
            self.names.entry(revision.to_owned()).or_insert_with(|| revision_name(definition));
        }
    }

    /// Replaces the ids and revisions in a text of an answer by the model's names.
    pub(crate) fn translate(&self, text: &str) -> String {
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let mut translated_text = String::with_capacity(text.len());
        let mut remaining_text = text;
        while !remaining_text.is_empty() {
            let end = remaining_text.find(|c| !is_in_word(c)).unwrap_or(remaining_text.len());
            let (word, after) = remaining_text.split_at(end);
            translated_text.push_str(self.names.get(word).map_or(word, String::as_str));
            let end = after.find(is_in_word).unwrap_or(after.len());
            translated_text.push_str(&after[..end]);
            remaining_text = &after[end..];
        }
        translated_text
    }

    /// Replaces the ids and revisions in an answer by the model's names.
    pub(crate) fn translate_json(&self, answer: &Value) -> Value {
        serde_json::from_str(&self.translate(&answer.to_string())).unwrap()
    }

    /// Returns the lease that an operation chooses, if there is a lease to choose.
    pub(crate) fn choose_lease(&self, choice: LeaseChoice) -> Option<(Token, LeaseToken)> {
        let known_lease = match choice {
            LeaseChoice::Live(nth) => {
                let live_leases: Vec<_> =
                    self.known_leases.iter().filter(|known_lease| self.model.is_leased_by(known_lease.token)).collect();
                live_leases.get(nth % live_leases.len().max(1)).copied()
            }
            LeaseChoice::Any(nth) => self.known_leases.iter().rev().nth(nth % self.known_leases.len().max(1)),
        };
        known_lease.map(|known_lease| (known_lease.token, known_lease.lease.clone()))
    }

    /// Returns the number of the message whose id an answer shows.
    pub(crate) fn number_of(&self, id: &MessageRef) -> Option<MessageNumber> {
        match id {
            MessageRef::Id(_) => self.ids.iter().position(|known| known == id),
            MessageRef::Own(own) => {
                (0..4).find(|n| own_id(*n) == own.as_str()).and_then(|n| self.model.find_by_own_id(n))
            }
        }
    }

    /// Returns the id by which an operation requests the message that it chooses. Also returns the number of this
    /// message in the model, if there is a message.
    pub(crate) fn choose_message(&self, choice: MessageChoice) -> (MessageRef, Option<MessageNumber>) {
        let mut candidates = choice.state.map(|state| self.model.list(state)).unwrap_or_default();
        if candidates.is_empty() {
            candidates = (0..self.ids.len()).rev().collect();
        }
        let Some(number) = candidates.get(choice.nth % candidates.len().max(1)).copied() else {
            return (MessageRef::Id("00000000000000".parse().unwrap()), None);
        };
        let chosen_own_id = self.model.messages.get(&number).and_then(|message| message.draft.own_id);
        match chosen_own_id.filter(|_| choice.by_own_id) {
            Some(chosen_own_id) => (MessageRef::Own(own_id(chosen_own_id).parse().unwrap()), Some(number)),
            None => (self.ids[number].clone(), Some(number)),
        }
    }

    /// Polls a call until this many scripts have run, then drops the call, so that the last reply is lost.
    pub(crate) async fn run_and_lose_answer(&mut self, scripts: u64, call: impl Future) -> Result<(), String> {
        let scripts_before = self.count_scripts_run();
        let mut call = pin!(call);
        while self.count_scripts_run() < scripts_before + scripts {
            // Notifications that have arrived are delivered only while this task yields.
            if poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await.is_ready() {
                return Err("the answer came before it could be lost".into());
            }
            yield_now().await;
        }
        Ok(())
    }

    fn count_scripts_run(&mut self) -> u64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut self.raw).unwrap();
        let field_value = |stats_line: &str, field: &str| -> u64 {
            let (_, rest) = stats_line.split_once(field).unwrap_or_default();
            rest.split(',').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        // The first call of a script is an EVAL, which sends the script.
        let successful_calls = |command: &str| {
            let stats_line = stats.lines().find(|stats_line| stats_line.starts_with(command)).unwrap_or_default();
            field_value(stats_line, ":calls=") - field_value(stats_line, "failed_calls=")
        };
        successful_calls("cmdstat_evalsha:") + successful_calls("cmdstat_eval:")
    }
}

pub(crate) fn queue_name() -> QueueName {
    "q".parse().unwrap()
}

fn new_queues(redis: &Redis) -> Queues {
    let declared_settings: SettingsPatch = serde_json::from_str(DECLARED_SETTINGS).unwrap();
    Queues::new(redis.clone(), [(queue_name(), declared_settings)].into_iter().collect())
}

//! Posts and signals in the model.

use queue_core::{Millis, NewMessage, Timestamp};
use serde_json::{Value, json};

use crate::{
    message::{Draft, Due, Instant, Message, MessageNumber, State},
    model::{KeyedRequest, Model, StickySignal},
    model_json::{MESSAGE_NAME, group_key, hold_key, own_id},
    run_operation::raw_json,
};

impl Model {
    /// Posts messages: stores all of them or none. `once` is an idempotency key and the fingerprint of its request.
    pub(crate) fn post(&mut self, drafts: &[Draft], once: Option<(u8, u8)>) -> Value {
        self.declare();
        let now = self.now();
        if let Some((key, fingerprint)) = once
            && let Some(earlier_request) = self.requests.get(&key).filter(|earlier_request| earlier_request.until > now)
        {
            if earlier_request.fingerprint != fingerprint {
                return json!("the key was used for another request");
            }
            return earlier_request
                .numbers
                .iter()
                .zip(drafts)
                .map(|(number, draft)| self.json_of_duplicate(*number, draft))
                .collect();
        }

        let unfinished_count = self.messages.values().filter(|message| message.is_unfinished()).count();
        let mut new_messages: Vec<(MessageNumber, Message)> = Vec::new();
        let mut numbers = Vec::new();
        for draft in drafts {
            let earlier_in_batch = new_messages.iter().find(|(_, other)| have_same_own_id(&other.draft, draft));
            let existing_number = match earlier_in_batch {
                Some((number, _)) => Some(*number),
                None => {
                    draft.own_id.and_then(|own_id| self.find_by_own_id(own_id).or_else(|| self.number_if_taken(own_id)))
                }
            };
            numbers.push(existing_number.unwrap_or(self.posted + new_messages.len()));
            if existing_number.is_none() {
                if self.settings.exclusive.is_some() && draft.group.is_some() {
                    return json!(crate::run_operation::EXCLUSIVE_QUEUE);
                }
                if self.settings.max_length.is_some_and(|max| unfinished_count + new_messages.len() >= max) {
                    return json!({"the queue is full": self.settings.max_length});
                }
                new_messages.push((self.posted + new_messages.len(), self.new_message(draft)));
            }
        }
        if let Some((key, fingerprint)) = once {
            let key_expires_at = now + self.settings.idempotency_window;
            self.requests.insert(key, KeyedRequest { until: key_expires_at, fingerprint, numbers: numbers.clone() });
        }
        let first_new_number = self.posted;
        for (number, message) in new_messages {
            self.store(number, message);
        }
        self.log_enqueued(first_new_number..self.posted);
        let mut new_numbers: Vec<MessageNumber> = (first_new_number..self.posted).collect();
        let outcome_json = |(number, draft): (&MessageNumber, &Draft)| match new_numbers
            .iter()
            .position(|new_messages| new_messages == number)
        {
            Some(index) => {
                new_numbers.remove(index);
                json!({"created": self.message_json(*number)})
            }
            None => self.json_of_duplicate(*number, draft),
        };
        numbers.iter().zip(drafts).map(outcome_json).collect()
    }

    /// Returns [`FORGOTTEN_MESSAGE_NUMBER`] if the own id is taken although its message is no longer kept; otherwise `None`.
    pub(crate) fn number_if_taken(&self, own_id: u8) -> Option<MessageNumber> {
        self.taken.get(&own_id).filter(|until| **until > self.now()).map(|_| FORGOTTEN_MESSAGE_NUMBER)
    }

    fn new_message(&self, draft: &Draft) -> Message {
        let now = self.now();
        let due_time = match draft.due {
            Due::Now | Due::AtPast(_) => now,
            Due::After(pause) | Due::AtFuture(pause) => now + pause,
        };
        let sticky_signal = draft.hold.and_then(|key| self.sticky.get(&key)).filter(|signal| signal.until > now);
        let state = match draft.hold {
            Some(_) if sticky_signal.is_none() => State::Held,
            _ if due_time > now => State::DelayedUntil(due_time),
            _ => State::Waiting,
        };
        Message {
            draft: draft.clone(),
            created: now,
            first_due: due_time,
            expires: draft.ttl.map(|ttl| now + ttl),
            state,
            is_returned: false,
            ready: None,
            blocks_queue: false,
            is_to_be_cancelled: false,
            run: None,
            outcome: None,
            progress: None,
            signal: sticky_signal.and_then(|signal| signal.data.clone()),
        }
    }

    /// Stores a new message that the queue does not refuse, and returns the number of the message in the model.
    pub(crate) fn store_new(&mut self, draft: &Draft) -> MessageNumber {
        let number = self.posted;
        self.store(number, self.new_message(draft));
        number
    }

    fn store(&mut self, number: MessageNumber, message: Message) {
        let is_ready = message.state == State::Waiting;
        self.messages.insert(number, message);
        self.posted = number + 1;
        self.last = Some(number);
        self.count("enqueued");
        if is_ready {
            self.add_at_tail(&[number]);
        }
    }

    fn json_of_duplicate(&self, number: MessageNumber, draft: &Draft) -> Value {
        let id = draft.own_id.map_or(shown_id(number), own_id);
        if !self.is_kept(number) {
            return json!({ "forgotten": id });
        }
        json!({"duplicate": id, "state": self.message_json(number)["state"]})
    }

    /// Releases the messages held for a key: they become waiting, or delayed if not due yet. Returns the number of released
    /// messages.
    pub(crate) fn signal(&mut self, key: u8, data: Option<&String>, sticky_for: Option<u64>) -> usize {
        // A sticky signal, which stays set for a time, creates the queue.
        if sticky_for.is_some() {
            self.declare();
        } else if !self.declare_if_it_exists() {
            return 0;
        }
        let now = self.now();
        if let Some(time) = sticky_for {
            self.sticky.insert(key, StickySignal { until: now + time, data: data.cloned() });
        }
        let released_numbers: Vec<MessageNumber> =
            self.held().into_iter().filter(|(hold, _)| *hold == key).map(|(_, number)| number).collect();
        for number in &released_numbers {
            let message = self.message(*number);
            message.signal = data.cloned();
            // A message that was leased before is due. A message that was due when it was posted is due, even if Redis's clock has
            // stepped back since.
            if !message.was_delivered() && message.first_due > now.max(message.created) {
                message.state = State::DelayedUntil(message.first_due);
            } else {
                message.ready = Some(now);
                self.add_at_tail(&[*number]);
            }
        }
        self.log_signalled(&released_numbers);
        released_numbers.len()
    }

    /// Records that a client waits for a message to finish.
    pub(crate) fn wait_for(&mut self, number: MessageNumber, wait: u64) {
        let now = self.now();
        if !self.is_unfinished(number) {
            return;
        }
        self.awaited.retain(|_, awaited_until| *awaited_until > now);
        let awaited_until: &mut Instant = self.awaited.entry(number).or_default();
        *awaited_until = (*awaited_until).max(now + wait);
    }
}

/// A message with these options and this number as its data, as a client posts it at an instant.
pub(crate) fn new_message(draft: &Draft, data: usize, now: Instant) -> NewMessage {
    NewMessage {
        name: draft.named.then(|| MESSAGE_NAME.parse().unwrap()),
        id: draft.own_id.map(|id| own_id(id).parse().unwrap()),
        delay: match draft.due {
            Due::After(pause) => Some(Millis::new(pause).try_into().unwrap()),
            _ => None,
        },
        deliver_at: match draft.due {
            Due::Now | Due::After(_) => None,
            Due::AtFuture(pause) => Some(Timestamp::from_millis(now + pause)),
            Due::AtPast(past) => Some(Timestamp::from_millis(now - past)),
        },
        priority: draft.priority.try_into().unwrap(),
        max_attempts: draft.max_attempts.map(|max| i64::from(max).try_into().unwrap()),
        backoff: draft.backoff.map(|backoff| serde_json::from_value(backoff.as_json()).unwrap()),
        timeout: draft.timeout.map(|time| Millis::new(time).try_into().unwrap()),
        ttl: draft.ttl.map(|time| Millis::new(time).try_into().unwrap()),
        hold: draft.hold.map(|key| hold_key(key).parse().unwrap()),
        group: draft.group.map(|key| group_key(key).parse().unwrap()),
        ..NewMessage::new(raw_json(&data.to_string()))
    }
}

fn have_same_own_id(a: &Draft, b: &Draft) -> bool {
    a.own_id.is_some() && a.own_id == b.own_id
}

/// The number that stands for every message that is no longer kept but whose own id is taken.
pub(crate) const FORGOTTEN_MESSAGE_NUMBER: MessageNumber = usize::MAX;

/// Returns the id by which answers of the model of a queue show a message.
pub(crate) fn shown_id(number: MessageNumber) -> String {
    if number == FORGOTTEN_MESSAGE_NUMBER { "00000000000000".to_owned() } else { format!("m{number}") }
}

//! Lists of messages, page by page: of one state, all or those of a name or a hold key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    message::{Message, MessageName, SignalKey, State},
    queue::{Call, Queue},
    redis::{reply, scripts},
};

/// The most bytes that the place of a held message has: its key, two tabs, its id and when it is due.
const MAX_PLACE_BYTES: usize = 256 * 4 + 1 + 14 + 1 + 15;

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// How many bytes Redis has of them, and of those that it looked at because of a name.
    pub bytes: usize,
    /// The cursor with which the list goes on, an opaque text; `None` at the end.
    pub next: Option<String>,
}

impl Queue {
    /// Lists the messages of one state: delayed ones by due time, active ones by deadline, held ones by key, waiting ones
    /// as they stand in the waiting list, finished ones from the newest back. At most `limit` of them, up to
    /// [`Queue::MAX_MESSAGES`]; a page ends at [`Queue::MAX_BYTES`], counting everything that is known of a message. It may
    /// have fewer, or none, and go on: what is gone still stands in a list for a while.
    ///
    /// Messages move while they are listed. One that stays in its state is listed once; in the waiting list, where all move with
    /// each lease, one may be listed twice or passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list(&self, state: State, limit: usize, cursor: Option<&str>) -> Result<Page> {
        self.list_some(state, None, None, limit, limits::MAX_BYTES, cursor).await
    }

    /// Like [`list`](Self::list), but a page ends at this many bytes and has at least one message if there is one. It lists only
    /// messages of this name, and only held messages that wait for this key.
    ///
    /// Redis looks for a name in the list, message by message. Each that it looks at counts 4,195 bytes or more, so a page looks
    /// at [`Queue::MAX_MESSAGES`] at most; it may be empty and go on.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list_some(
        &self,
        state: State,
        name: Option<&MessageName>,
        hold: Option<&SignalKey>,
        limit: usize,
        max_bytes: usize,
        cursor: Option<&str>,
    ) -> Result<Page> {
        let place = cursor.map_or(Ok(String::new()), |cursor| place_of(cursor, state, hold))?;
        if hold.is_some() && state != State::Held {
            return Ok(Page::default());
        }
        let limit = limit.clamp(1, limits::MAX_MESSAGES);
        let call = Call::new(&scripts::LIST, &self.keys).arg(state.as_str()).arg(limit).arg(max_bytes).arg(place);
        let call = call.arg(name.map_or("", MessageName::as_str)).arg(hold.map_or("", SignalKey::as_str));
        let mut answer: Vec<Value> = self.call(&scripts::LIST, call).await?;
        let found = answer.split_off(answer.len().min(2));
        let (place, bytes): (String, usize) = reply::decode(Value::Array(answer))?;
        let mut messages = Vec::with_capacity(found.len());
        for value in found {
            let stored = self.decode_stored(value)?.map(|(_, stored)| stored);
            messages.extend(stored.map(|stored| Message::from_stored(self.name.clone(), stored)));
        }
        Ok(Page { messages, bytes, next: (!place.is_empty()).then(|| cursor_to(&place)) })
    }
}

/// The cursor that leads to a place in a list.
fn cursor_to(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The place that a cursor leads to, if it has the form of those that `list.lua` answers for a state and a hold key.
fn place_of(cursor: &str, state: State, hold: Option<&SignalKey>) -> Result<String> {
    let decoded = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.filter(|place| place.len() <= MAX_PLACE_BYTES && is_place(place, state, hold)).ok_or(Error::InvalidCursor)
}

fn is_place(place: &str, state: State, hold: Option<&SignalKey>) -> bool {
    let is_number = |text: &str| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match state {
        State::Held => place.split_once('\t').is_some_and(|(key, _)| hold.is_none_or(|hold| key == hold.as_str())),
        State::Waiting | State::Completed => is_number(place),
        State::Delayed | State::Active | State::Failed => {
            place.split_once(':').is_some_and(|(score, id)| is_number(score) && is_number(id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_the_form_of_its_state() {
        for (place, state, hold, is_one) in [
            ("k\t21718923400017", State::Held, None, true),
            ("k\t21718923400017", State::Held, Some("k"), true),
            ("k\t21718923400017", State::Held, Some("k2"), false),
            ("100", State::Waiting, None, true),
            ("1e300", State::Waiting, None, false),
            ("nan", State::Completed, None, false),
            ("1795424400000:21718923400017", State::Failed, None, true),
            ("1795424400000", State::Failed, None, false),
            (":", State::Delayed, None, false),
            ("-1:2", State::Active, None, false),
        ] {
            let hold = hold.map(|key| key.parse().unwrap());
            assert_eq!(place_of(&cursor_to(place), state, hold.as_ref()).is_ok(), is_one, "{place}");
        }
    }

    #[test]
    fn a_cursor_of_the_longest_key_reads_back() {
        let place = format!("{}\t21718923400017\t1795424400000", "\u{1f600}".repeat(256));
        assert_eq!(place_of(&cursor_to(&place), State::Held, None).unwrap(), place);
    }
}

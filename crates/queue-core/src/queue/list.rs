//! Lists of messages, page by page: of one state, all or those of a name or a hold key.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Call, Queue};
use crate::{
    Error, InvalidName, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, Message, MessageName, Result, SignalKey, State,
    reply, scripts::LIST,
};

/// The most bytes that the place of a held message has: its key, two tabs, its id and when it is due.
const MAX_PLACE_BYTES: usize = 256 * 4 + 1 + 14 + 1 + 15;

/// Where a list goes on: opaque text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// How many bytes Redis has of them, and of those that it looked at because of a name.
    pub bytes: usize,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl Queue {
    /// Lists the messages of one state: delayed ones by due time, active ones by deadline, held ones by key, waiting ones
    /// as they stand in the line, finished ones from the newest back. At most `limit` of them, up to
    /// [`MAX_MESSAGES_PER_CALL`]; a page ends at [`MAX_BYTES_PER_CALL`], counting everything that is known of a message. It may
    /// have fewer, or none, and go on: what is gone still stands in a list for a while.
    ///
    /// Messages move while they are listed. One that stays in its state is listed once; in the line, where all move with
    /// each lease, one may be listed twice or passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list(&self, state: State, limit: usize, cursor: Option<&Cursor>) -> Result<Page> {
        self.list_some(state, None, None, limit, MAX_BYTES_PER_CALL, cursor).await
    }

    /// As [`list`](Self::list), but a page ends at so many bytes, with one message at least if there is one; and it lists only
    /// messages of this name, and only held ones that wait for this key.
    ///
    /// Redis looks for a name in the list, message by message. Each that it looks at counts 4,195 bytes or more, so a page looks
    /// at [`MAX_MESSAGES_PER_CALL`] at most; it may be empty and go on.
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
        cursor: Option<&Cursor>,
    ) -> Result<Page> {
        if cursor.is_some_and(|cursor| !cursor.is_one_of(state, hold)) {
            return Err(Error::InvalidCursor);
        }
        if hold.is_some() && state != State::Held {
            return Ok(Page::default());
        }
        let place = cursor.map_or("", |cursor| cursor.0.as_str());
        let limit = limit.clamp(1, MAX_MESSAGES_PER_CALL);
        let call = Call::new(&LIST, &self.keys).arg(state.as_str()).arg(limit).arg(max_bytes).arg(place);
        let call = call.arg(name.map_or("", MessageName::as_str)).arg(hold.map_or("", SignalKey::as_str));
        let mut answer = reply::array(Some(self.call(&LIST, call).await?))?.into_iter();
        let place = reply::text(answer.next())?;
        let bytes = usize::try_from(reply::unsigned(answer.next())?).map_err(Error::unexpected)?;
        let mut messages = Vec::with_capacity(answer.len());
        for value in answer {
            let stored = self.decode_stored(value)?.map(|(_, stored)| stored);
            messages.extend(stored.map(|stored| Message::from_stored(self.name.clone(), stored)));
        }
        Ok(Page { messages, bytes, next: (!place.is_empty()).then_some(Cursor(place)) })
    }
}

impl Cursor {
    /// Whether it has the form of those that `list.lua` answers for a state and a hold key.
    fn is_one_of(&self, state: State, hold: Option<&SignalKey>) -> bool {
        let is_number = |text: &str| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match state {
            State::Held => hold.is_none_or(|hold| self.0.split('\t').next() == Some(hold.as_str())),
            State::Waiting | State::Completed => is_number(&self.0),
            State::Delayed | State::Active | State::Failed => {
                self.0.split_once(':').is_some_and(|(score, id)| is_number(score) && is_number(id))
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for Cursor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded {
            Some(place) if !place.is_empty() && place.len() <= MAX_PLACE_BYTES => Ok(Self(place)),
            _ => Err(InvalidName("a cursor is what the page before was answered with, unchanged")),
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
            assert_eq!(Cursor(place.into()).is_one_of(state, hold.as_ref()), is_one, "{place}");
        }
    }

    #[test]
    fn a_cursor_of_the_longest_key_reads_back() {
        let cursor = Cursor(format!("{}\t21718923400017\t1795424400000", "\u{1f600}".repeat(256)));
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
    }
}

//! Lists of the messages in one state, page by page.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Call, Queue};
use crate::{
    Error, InvalidName, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, Message, Result, State, reply, scripts::LIST,
};

/// Where a list goes on: opaque text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// How many bytes Redis has of them.
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
        self.list_up_to(MAX_BYTES_PER_CALL, state, limit, cursor).await
    }

    /// As [`list`](Self::list), but a page ends at so many bytes. It has one message at least if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list_up_to(
        &self,
        max_bytes: usize,
        state: State,
        limit: usize,
        cursor: Option<&Cursor>,
    ) -> Result<Page> {
        if cursor.is_some_and(|cursor| !cursor.is_one_of(state)) {
            return Err(Error::InvalidCursor);
        }
        let place = cursor.map_or("", |cursor| cursor.0.as_str());
        let limit = limit.clamp(1, MAX_MESSAGES_PER_CALL);
        let call = Call::new(&LIST, &self.keys).arg(state.as_str()).arg(limit).arg(max_bytes).arg(place);
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
    /// Whether it has the form of those that `list.lua` answers for a state.
    fn is_one_of(&self, state: State) -> bool {
        let is_number = |text: &str| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match state {
            State::Held => true,
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
            Some(place) if !place.is_empty() && place.len() <= 512 => Ok(Self(place)),
            _ => Err(InvalidName("a cursor is what the page before was answered with, unchanged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_the_form_of_its_state() {
        for (place, state, is_one) in [
            ("k\t21718923400017", State::Held, true),
            ("100", State::Waiting, true),
            ("1e300", State::Waiting, false),
            ("nan", State::Completed, false),
            ("1795424400000:21718923400017", State::Failed, true),
            ("1795424400000", State::Failed, false),
            (":", State::Delayed, false),
            ("-1:2", State::Active, false),
        ] {
            assert_eq!(Cursor(place.into()).is_one_of(state), is_one, "{place}");
        }
    }
}

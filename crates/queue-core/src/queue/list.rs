//! Lists the messages of one state, page by page: all, or only those with a name, a hold key or a group.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    message::{Message, State},
    names::{GroupKey, MessageName, SignalKey},
    queue::{Call, Queue},
    redis::{reply, scripts},
};

/// The maximum bytes of a decoded cursor. The longest cursor is that of a held message: its key (256 characters of up to four
/// bytes), a tab, its id (14 digits), a tab and its due time.
const MAX_POSITION_BYTES: usize = 256 * 4 + 1 + 14 + 1 + 15;

/// One page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages of the page.
    pub messages: Vec<Message>,
    /// The bytes that the page counts: of its messages, and of messages that Redis checked but left out, because they do not match the
    /// filter.
    pub bytes: usize,
    /// The cursor for the next page, an opaque text; `None` at the end.
    pub next: Option<String>,
}

/// A filter of a list: the list has only the messages that match all given values.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// The name that the listed messages must have.
    pub name: Option<MessageName>,
    /// The key for which the listed messages must be held. Only held messages have a hold key.
    pub hold: Option<SignalKey>,
    /// The group that the listed messages must have.
    pub group: Option<GroupKey>,
}

impl Queue {
    /// Lists the messages of one state: delayed messages by due time, active messages by deadline, held messages by hold key,
    /// finished messages from newest to oldest. Waiting messages without a group come in the order of the waiting list; then
    /// comes the first waiting message of each group, and then the other messages of the groups, group by group. A page
    /// has at most `limit` messages, up to [`Queue::MAX_MESSAGES`], and ends at [`Queue::MAX_BYTES`], counting everything that
    /// is stored about a message. A page may have fewer messages, or none, although more pages follow, because ids of removed
    /// messages stay in a list for a while.
    ///
    /// A message that keeps its state and its place in the order during the listing is listed once. Every lease shifts the
    /// positions in the waiting list, an extended lease has another deadline, and a patch may change a due time, so a message may
    /// be listed twice or skipped after any of these changes.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list(&self, state: State, limit: usize, cursor: Option<&str>) -> Result<Page> {
        self.list_page(state, &ListFilter::default(), limit, limits::MAX_BYTES, cursor).await
    }

    /// Like [`list`](Self::list), but only with the messages that the filter accepts, and a page ends at `max_bytes`; a single
    /// larger message is listed too.
    ///
    /// To find messages by their name, or messages of a group that are not waiting, Redis checks message by message. Each message whose
    /// name or group Redis checks counts at least 4,195 bytes, so Redis checks at most [`Queue::MAX_MESSAGES`] messages for one page. A
    /// page of a filtered list may be empty although more pages follow.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::InvalidCursor`].
    pub async fn list_page(
        &self,
        state: State,
        filter: &ListFilter,
        limit: usize,
        max_bytes: usize,
        cursor: Option<&str>,
    ) -> Result<Page> {
        let position = cursor.map_or(Ok(String::new()), |cursor| decode_cursor(cursor, state, filter))?;
        let ListFilter { name, hold, group } = filter;
        if hold.is_some() && state != State::Held {
            return Ok(Page::default());
        }
        let limit = limit.clamp(1, limits::MAX_MESSAGES);
        let call = Call::new(&scripts::LIST, &self.keys).arg(state.as_str()).arg(limit).arg(max_bytes).arg(position);
        let call = call.arg(name.as_ref().map_or("", MessageName::as_str));
        let call = call.arg(hold.as_ref().map_or("", SignalKey::as_str));
        let call = call.arg(group.as_ref().map_or("", GroupKey::as_str));
        let mut answer: Vec<Value> = self.call(&scripts::LIST, call).await?;
        let found_values = answer.split_off(answer.len().min(2));
        let (position, bytes): (String, usize) = reply::decode(Value::Array(answer))?;
        let mut messages = Vec::with_capacity(found_values.len());
        for value in found_values {
            let stored_message = self.decode_stored(value)?.map(|(_, stored_message)| stored_message);
            messages
                .extend(stored_message.map(|stored_message| Message::from_stored(self.name.clone(), stored_message)));
        }
        Ok(Page { messages, bytes, next: (!position.is_empty()).then(|| encode_cursor(&position)) })
    }
}

/// Encodes a position of `list.lua` as a cursor; the next page begins after that position.
fn encode_cursor(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

/// Decodes a cursor to a position, if it has the form that `list.lua` returns for the state and the filter.
fn decode_cursor(cursor: &str, state: State, filter: &ListFilter) -> Result<String> {
    let decoded_cursor = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded_cursor
        .filter(|position| position.len() <= MAX_POSITION_BYTES && is_position(position, state, filter))
        .ok_or(Error::InvalidCursor)
}

fn is_position(position: &str, state: State, ListFilter { hold, group, .. }: &ListFilter) -> bool {
    let is_number_of = |text: &str, digits: RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let is_number = |text: &str| is_number_of(text, 1..=15);
    match state {
        State::Held => {
            position.split_once('\t').is_some_and(|(key, _)| hold.as_ref().is_none_or(|hold| key == hold.as_str()))
        }
        State::Waiting => match (position.split_at_checked(1), group) {
            (Some(("r", "")), None) => true,
            (Some(("r", member)), group) => member.split_once('\t').is_some_and(|(of, place)| {
                group.as_ref().is_none_or(|group| of == group.as_str())
                    && (place.is_empty() || is_number_of(place, 22..=22))
            }),
            (Some(("h", rest)), None) => {
                rest.split_once(':').is_some_and(|(scan, listed)| is_number_of(scan, 1..=20) && is_number(listed))
            }
            (_, None) => is_number(position),
            (_, Some(_)) => false,
        },
        State::Completed => is_number(position),
        State::Delayed | State::Active | State::Failed => {
            position.split_once(':').is_some_and(|(score, id)| is_number(score) && is_number(id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_the_form_of_its_state() {
        for (position, state, hold, is_valid) in [
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
            let filter = ListFilter { hold, ..ListFilter::default() };
            assert_eq!(decode_cursor(&encode_cursor(position), state, &filter).is_ok(), is_valid, "{position}");
        }
    }

    #[test]
    fn a_cursor_of_waiting_messages_belongs_to_the_list_of_all_or_of_one_group() {
        for (position, group, is_valid) in [
            ("h17293822569102704640:99", None, true),
            ("h1", None, false),
            ("r", None, true),
            ("rg\t1209715221718923400017", None, true),
            ("rg\t1209715221718923400017", Some("g"), true),
            ("rg\t", Some("g"), true),
            ("rg\t1209715221718923400017", Some("h"), false),
            ("rg\tx", None, false),
            ("100", Some("g"), false),
            ("", None, false),
        ] {
            let group = group.map(|key| key.parse().unwrap());
            let filter = ListFilter { group, ..ListFilter::default() };
            assert_eq!(
                decode_cursor(&encode_cursor(position), State::Waiting, &filter).is_ok(),
                is_valid,
                "{position}"
            );
        }
    }

    #[test]
    fn a_cursor_of_the_longest_key_reads_back() {
        let position = format!("{}\t21718923400017\t1795424400000", "\u{1f600}".repeat(256));
        assert_eq!(decode_cursor(&encode_cursor(&position), State::Held, &ListFilter::default()).unwrap(), position);
    }
}

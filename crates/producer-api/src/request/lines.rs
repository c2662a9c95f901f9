//! Splits a body into lines. At most one unfinished line and the latest frame of the body are in memory.

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};

use super::body::bytes_in_memory_budget;
use crate::budget::{BudgetExceeded, Share};

pub(crate) struct Lines<S> {
    stream: S,
    limit: usize,
    /// The bytes of the latest frame of the body that are not split into lines yet.
    frame: Bytes,
    /// The received part of a line whose end has not been received yet.
    partial_line: Vec<u8>,
    share: Share,
    /// Whether the partial line is too long and was dropped.
    is_too_long: bool,
    line_count: u64,
}

/// The reason why reading lines failed.
#[derive(Debug)]
pub(crate) enum LinesError<E> {
    Broken(E),
    /// The memory budget does not suffice for the line.
    NoMemory(BudgetExceeded),
}

/// A line of a body without its line end, and the number of the line. The first line has the number 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    /// The text of the line; `None` if the line exceeded the limit and was dropped.
    pub(crate) text: Option<Bytes>,
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// Creates a splitter of the frames of `stream`. `share` is resized to the memory of a line that arrives in several frames.
    pub(crate) fn new(stream: S, limit: usize, share: Share) -> Self {
        Self { stream, limit, frame: Bytes::new(), partial_line: Vec::new(), share, is_too_long: false, line_count: 0 }
    }

    /// Returns the next line; `None` at the end of the body. `next` is cancel safe: if its future is dropped, no
    /// received byte is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, LinesError<E>> {
        loop {
            if let Some(end) = self.frame.iter().position(|byte| *byte == b'\n') {
                let piece = self.frame.split_to(end);
                self.frame = self.frame.slice(1..);
                return Ok(Some(self.end_line(piece)));
            }
            let piece = std::mem::take(&mut self.frame);
            self.extend_line(&piece).map_err(LinesError::NoMemory)?;
            match self.stream.next().await.transpose().map_err(LinesError::Broken)? {
                Some(frame) => self.frame = frame,
                None if self.partial_line.is_empty() && !self.is_too_long => return Ok(None),
                None => return Ok(Some(self.end_line(Bytes::new()))),
            }
        }
    }

    /// Drops the received bytes, and then reads and drops the rest of the body.
    pub(crate) async fn drain(&mut self) {
        (self.frame, self.partial_line) = (Bytes::new(), Vec::new());
        // `resize` can't fail when it reduces the share of the memory budget.
        let _ = self.share.resize(0);
        while let Some(Ok(_)) = self.stream.next().await {}
    }

    fn extend_line(&mut self, piece: &[u8]) -> Result<(), BudgetExceeded> {
        let length = self.partial_line.len() + piece.len();
        if length > self.limit {
            self.is_too_long = true;
            self.partial_line = Vec::new();
            self.share.resize(0)?;
        }
        if self.is_too_long {
            return Ok(());
        }
        if length > self.partial_line.capacity() {
            let capacity = length.next_power_of_two().min(self.limit);
            self.share.resize(bytes_in_memory_budget(capacity))?;
            self.partial_line.reserve_exact(capacity - self.partial_line.len());
        }
        self.partial_line.extend_from_slice(piece);
        Ok(())
    }

    fn end_line(&mut self, piece: Bytes) -> Line {
        self.line_count += 1;
        let text = if self.is_too_long || self.partial_line.len() + piece.len() > self.limit {
            None
        } else if self.partial_line.is_empty() {
            Some(piece)
        } else {
            let mut line = std::mem::take(&mut self.partial_line);
            line.extend_from_slice(&piece);
            Some(line.into())
        };
        self.partial_line = Vec::new();
        // `resize` can't fail when it reduces the share of the memory budget.
        let _ = self.share.resize(0);
        self.is_too_long = false;
        Line { number: self.line_count, text }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;
    use crate::budget::Budget;

    async fn lines(frames: &[&'static str], limit: usize) -> Vec<String> {
        let frames = frames.iter().map(|frame| Ok::<_, Infallible>(Bytes::from_static(frame.as_bytes())));
        let share = Budget::new(1_000, 1_000).take(None, 0).ok().unwrap();
        let mut lines = Lines::new(stream::iter(frames), limit, share);
        let mut found_lines = Vec::new();
        while let Some(Line { number, text }) = lines.next().await.unwrap() {
            found_lines.push(text.map_or("too long".into(), |text| String::from_utf8(text.to_vec()).unwrap()));
            assert_eq!(number, found_lines.len() as u64);
        }
        found_lines
    }

    #[tokio::test]
    async fn lines_of_a_body_are_the_same_for_every_split_into_frames() {
        for frames in [&["a\n\nbc\nd"][..], &["a", "\n", "\nb", "", "c\n", "d"], &["a\n\nbc\nd\n"]] {
            assert_eq!(lines(frames, 9).await, ["a", "", "bc", "d"], "{frames:?}");
        }
        assert!(lines(&[], 9).await.is_empty());
        assert_eq!(lines(&["\n"], 9).await, [""]);
    }

    #[tokio::test]
    async fn too_long_line_is_dropped_and_other_lines_are_returned() {
        for frames in [&["abc\nabcd\ne"][..], &["abc\nab", "cd", "\ne"], &["abc\nab", "cde", "fgh\ne\n"]] {
            assert_eq!(lines(frames, 3).await, ["abc", "too long", "e"], "{frames:?}");
        }
        assert_eq!(lines(&["ab", "cd"], 3).await, ["too long"]);
    }

    #[tokio::test]
    async fn unfinished_line_takes_memory_of_the_budget_until_the_line_ends() {
        let piece = "x".repeat(10_000);
        let frames = [piece.clone(), piece.clone(), format!("{piece}\n"), piece.clone(), piece.clone()];
        let frames = frames.into_iter().map(|frame| Ok::<_, Infallible>(Bytes::from(frame)));
        let budget = Budget::new(40_000, 40_000);
        let share = budget.take(None, 0).ok().unwrap();
        let mut lines = Lines::new(stream::iter(frames), 100_000, share);
        assert!(lines.next().await.unwrap().is_some());
        assert_eq!(budget.taken_amount(), 0);
        let _other_share = budget.take(None, 20_000).ok().unwrap();
        assert!(
            matches!(lines.next().await, Err(LinesError::NoMemory(BudgetExceeded::All))),
            "the line needs 32,768 bytes, and 20,000 are free"
        );
        assert_eq!(budget.taken_amount(), 20_000 + 16_384);
        drop(lines);
        assert_eq!(budget.taken_amount(), 20_000);
    }
}

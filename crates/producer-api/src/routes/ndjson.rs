//! Posts the messages of an NDJSON body, which has any number of messages, one per line. The messages are stored chunk by chunk
//! while they arrive. The rest of the body is not read while a chunk is being stored, so TCP flow control slows down a fast
//! client.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use queue_core::{Error, NewMessage, Queue};
use service::{LinesInDoubt, Problem};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    api::{
        batch::{BatchOrLines, LinesSummary},
        json,
    },
    app::App,
    budget::Share,
    errors::{self, Result},
    request::{
        body::bytes_in_memory_budget,
        lines::{Line, Lines, LinesError},
        trace::Trace,
    },
};

/// The maximum size of a chunk of messages in bytes; a longer single line is a chunk of its own.
const MAX_CHUNK_BYTES: usize = 1_024 * 1_024;
/// The time without a new line after which a chunk that is not full is stored.
const CHUNK_DELAY: Duration = Duration::from_millis(20);
/// The size of the steps in which a chunk takes memory from the budget, in bytes.
const CHUNK_MEMORY_STEP: usize = 64 * 1_024;

/// Collects the messages of one request into chunks, stores each chunk (all messages or none), and sums up the outcome.
struct ChunkWriter<'a> {
    queue: &'a Queue,
    trace: Trace,
    body_limit: usize,
    chunk: Vec<NewMessage>,
    chunk_bytes: usize,
    chunk_share: Share,
    first_line: u64,
    last_line: u64,
    summary: LinesSummary,
    /// The number of the last line that was added to the chunk, skipped or refused.
    last_handled: u64,
    /// The number of the line up to which all lines were stored, skipped or refused.
    stored_through: u64,
    /// The instant at which a message was last added to the chunk, or the last chunk was stored.
    active_at: Instant,
}

pub(super) async fn enqueue(app: &App, queue: &Queue, trace: Trace, body: Body, share: Share) -> Result<Response> {
    let mut lines =
        Lines::new(body.into_data_stream(), app.limits.body_limit, share.create_empty_share_of_same_client());
    let mut chunk_writer = ChunkWriter {
        queue,
        trace,
        body_limit: app.limits.body_limit,
        chunk: Vec::new(),
        chunk_bytes: 0,
        chunk_share: share,
        first_line: 0,
        last_line: 0,
        summary: LinesSummary::default(),
        last_handled: 0,
        stored_through: 0,
        active_at: Instant::now(),
    };
    let time_limit = app.limits.request_timeout.to_std();
    let read_result = loop {
        // Empty and invalid lines do not extend the time limit of the request.
        let deadline = if chunk_writer.chunk.is_empty() {
            chunk_writer.active_at + time_limit
        } else {
            Instant::now() + CHUNK_DELAY
        };
        let line = tokio::select! {
            line = timeout_at(deadline, lines.next()) => line,
            () = app.shutdown.cancelled() => break chunk_writer.store_chunk().await.and(Err(errors::server_is_stopping())),
        };
        let handled = match line {
            Ok(Ok(Some(line))) => chunk_writer.add_line(line).await,
            Ok(Ok(None)) => break chunk_writer.store_chunk().await,
            Ok(Err(LinesError::Broken(_))) => break Err(errors::BODY_NOT_RECEIVED.into()),
            Ok(Err(LinesError::NoMemory(full))) => {
                break chunk_writer.store_chunk().await.and(Err(errors::no_memory_for_body(full)));
            }
            Err(_) if chunk_writer.chunk.is_empty() => {
                return Err(chunk_writer.add_summary_to(errors::lines_too_slow(*app.limits.request_timeout)));
            }
            Err(_) => chunk_writer.store_chunk().await,
        };
        if handled.is_err() {
            break handled;
        }
        if chunk_writer.chunk.is_empty() && chunk_writer.active_at + time_limit <= Instant::now() {
            break Err(errors::lines_too_slow(*app.limits.request_timeout));
        }
    };
    match read_result {
        Ok(()) => {
            chunk_writer.summary.done = true;
            Ok(Json(BatchOrLines::Lines(chunk_writer.summary)).into_response())
        }
        Err(problem) => {
            // The rest of the body is read before the response is sent, because a client that writes its whole body before it
            // reads would not receive the response.
            let _ = timeout(time_limit, lines.drain()).await;
            Err(chunk_writer.add_summary_to(problem))
        }
    }
}

impl ChunkWriter<'_> {
    /// Adds a line to the chunk. If the chunk has no room for the line, the chunk is stored before the line is added.
    async fn add_line(&mut self, Line { number, text }: Line) -> Result<()> {
        match self.parse_line(text) {
            Ok(Some((message, bytes))) => {
                let is_full = self.chunk.len() == Queue::MAX_MESSAGES || self.chunk_bytes + bytes > MAX_CHUNK_BYTES;
                if is_full && !self.chunk.is_empty() {
                    self.store_chunk().await?;
                }
                if let Err(full) = self.make_room_for(bytes) {
                    // Storing the chunk returns its memory to the budget.
                    if self.chunk.is_empty() {
                        return Err(full);
                    }
                    self.store_chunk().await?;
                    self.make_room_for(bytes)?;
                }
                if self.chunk.is_empty() {
                    self.first_line = number;
                }
                self.last_line = number;
                self.chunk.push(message);
                self.chunk_bytes += bytes;
                self.active_at = Instant::now();
            }
            Ok(None) => {}
            Err(problem) => self.summary.add_refused_line(number, problem),
        }
        self.last_handled = number;
        if self.chunk.is_empty() {
            self.stored_through = number;
        }
        Ok(())
    }

    /// Reserves memory for another message of `bytes` bytes in the chunk.
    fn make_room_for(&mut self, bytes: usize) -> Result<()> {
        let needed_bytes =
            bytes_in_memory_budget(self.chunk_bytes + bytes + (self.chunk.len() + 1) * size_of::<NewMessage>());
        if needed_bytes <= self.chunk_share.amount() {
            return Ok(());
        }
        self.chunk_share.resize(needed_bytes.next_multiple_of(CHUNK_MEMORY_STEP)).map_err(errors::no_memory_for_body)
    }

    /// Parses the message of a line, and returns the message with the size of the line; `None` for an empty line.
    fn parse_line(&self, text: Option<Bytes>) -> Result<Option<(NewMessage, usize)>> {
        let line = text.ok_or_else(|| errors::line_too_large(self.body_limit))?;
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let mut message = json::parse_line::<NewMessage>(&line)?;
        self.trace.add_to_headers_of(&mut message);
        Ok(Some((message, line.len())))
    }

    async fn store_chunk(&mut self) -> Result<()> {
        let messages = std::mem::take(&mut self.chunk);
        self.chunk_bytes = 0;
        let is_single = messages.len() == 1;
        let enqueue_outcomes = self.queue.enqueue(messages).await;
        self.active_at = Instant::now();
        // `resize` can't fail when it reduces the share of the memory budget.
        let _ = self.chunk_share.resize(0);
        match enqueue_outcomes {
            Ok(enqueue_outcomes) => self.summary.count_messages(&enqueue_outcomes),
            // A single message is refused if its stored form is larger than a call to Redis may be. The stored form of a
            // message may be larger than its NDJSON line.
            Err(error @ (Error::TooManyMessages(_) | Error::TooManyBytes(_))) if is_single => {
                self.summary.add_refused_line(self.last_line, errors::enqueue_error(error));
            }
            Err(error) => return Err(self.chunk_error(error)),
        }
        self.stored_through = self.last_handled;
        Ok(())
    }

    fn chunk_error(&mut self, error: Error) -> Problem {
        let (first, last) = (self.first_line, self.last_line);
        self.stored_through = first - 1;
        let cause = match &error {
            Error::Unavailable(_) => "Redis became unavailable",
            Error::NotPermitted(_) => errors::MISSING_RIGHT_DETAIL,
            _ => return errors::enqueue_error(error),
        };
        let mut problem = errors::enqueue_error(error);
        problem.detail = format!(
            "{cause}: lines {first} to {last} may be stored or not, and no later line is stored; send these \
             and the later lines again when Redis is available. A message with an id of its own is not stored twice"
        );
        problem.with_lines_in_doubt(LinesInDoubt { from: first, to: last })
    }

    /// Adds the number of the last stored line and the summary of all lines to an error response.
    fn add_summary_to(self, problem: Problem) -> Problem {
        problem.with_progress_of_lines(self.stored_through, &self.summary)
    }
}

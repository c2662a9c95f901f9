//! Messages one a line, as many as there are: stored chunk by chunk while they come in.
//!
//! Nothing more is read while a chunk is being stored, so a fast client is slowed down by its socket.

use std::{mem::size_of, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use queue_core::{Error, NewMessage, Queue};
use service::{InDoubt, Problem};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    App,
    api::{
        batch::{BatchOrLines, LinesSummary},
        reading,
    },
    body::counted,
    budget::Share,
    lines::{Cut, Line, Lines, Text},
    refusal,
    trace::Trace,
};

/// A chunk has at most so many bytes, unless one line alone has more.
const MAX_CHUNK_BYTES: usize = 1_024 * 1_024;
/// A chunk that is not full is stored when no other line has come for so long.
const LINGER: Duration = Duration::from_millis(20);
/// A chunk takes memory in steps of so many bytes.
const MEMORY_STEP: usize = 64 * 1_024;
/// What is stored next, all or nothing.
struct Chunk {
    messages: Vec<NewMessage>,
    bytes: usize,
    memory: Share,
    first_line: u64,
    last_line: u64,
}

impl Chunk {
    fn new(memory: Share) -> Self {
        Self { messages: Vec::new(), bytes: 0, memory, first_line: 0, last_line: 0 }
    }

    /// Takes memory for another message.
    fn make_room_for(&mut self, bytes: usize) -> Result<(), Problem> {
        let needed = counted(self.bytes + bytes + (self.messages.len() + 1) * size_of::<NewMessage>());
        if needed <= self.memory.amount() {
            return Ok(());
        }
        self.memory.resize(needed.next_multiple_of(MEMORY_STEP)).map_err(|full| refusal::too_much_memory(&full))
    }

    fn add(&mut self, line: u64, message: NewMessage, bytes: usize) {
        if self.messages.is_empty() {
            self.first_line = line;
        }
        self.last_line = line;
        self.messages.push(message);
        self.bytes += bytes;
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.messages.is_empty() || self.messages.len() < Queue::MAX_MESSAGES && self.bytes + bytes <= MAX_CHUNK_BYTES
    }
}

/// The lines of one request on their way into the queue.
struct Intake<'a> {
    queue: &'a Queue,
    trace: Trace,
    body_limit: usize,
    chunk: Chunk,
    summary: LinesSummary,
    /// The last line that was taken into the chunk or refused.
    taken: u64,
    /// All lines up to this one are stored or refused.
    stored_through: u64,
    /// When a message was last taken or stored.
    lively: Instant,
}

/// Stores the messages of a body of lines.
pub(super) async fn enqueue(
    app: &App,
    queue: &Queue,
    trace: Trace,
    body: Body,
    memory: Share,
) -> Result<Response, Problem> {
    let shared = &app.shared;
    let mut lines = Lines::new(body.into_data_stream(), shared.body_limit, memory.sibling());
    let mut intake = Intake {
        queue,
        trace,
        body_limit: shared.body_limit,
        chunk: Chunk::new(memory),
        summary: LinesSummary::default(),
        taken: 0,
        stored_through: 0,
        lively: Instant::now(),
    };
    let patience = shared.request_timeout.to_std();
    let ended = loop {
        // Lines that are no messages, such as empty ones, keep no stream open.
        let until = if intake.chunk.messages.is_empty() { intake.lively + patience } else { Instant::now() + LINGER };
        let line = tokio::select! {
            line = timeout_at(until, lines.next()) => line,
            () = shared.shutdown.cancelled() => break intake.store().await.and(Err(refusal::stopping())),
        };
        let taken = match line {
            Ok(Ok(Some(line))) => intake.take(line).await,
            Ok(Ok(None)) => break intake.store().await,
            Ok(Err(Cut::Broken(_))) => break Err(refusal::body_not_received()),
            Ok(Err(Cut::NoMemory(full))) => break intake.store().await.and(Err(refusal::too_much_memory(&full))),
            Err(_) if intake.chunk.messages.is_empty() => {
                return Err(intake.tell(refusal::lines_too_slow(shared.request_timeout)));
            }
            Err(_) => intake.store().await,
        };
        if taken.is_err() {
            break taken;
        }
        if intake.chunk.messages.is_empty() && intake.lively + patience <= Instant::now() {
            break Err(refusal::lines_too_slow(shared.request_timeout));
        }
    };
    match ended {
        Ok(()) => {
            intake.summary.done = true;
            Ok(Json(BatchOrLines::Lines(intake.summary)).into_response())
        }
        Err(problem) => {
            // A client that writes all before it reads would never see an answer that comes in between.
            let _ = timeout(patience, lines.drain()).await;
            Err(intake.tell(problem))
        }
    }
}

impl Intake<'_> {
    /// Takes a line into the chunk, which is stored before if there is no room in it.
    async fn take(&mut self, Line { number, text }: Line) -> Result<(), Problem> {
        match self.read(text) {
            Ok(Some((message, bytes))) => {
                if !self.chunk.has_room_for(bytes) {
                    self.store().await?;
                }
                if let Err(full) = self.chunk.make_room_for(bytes) {
                    // The lines that are there are stored earlier, which makes room.
                    if self.chunk.messages.is_empty() {
                        return Err(full);
                    }
                    self.store().await?;
                    self.chunk.make_room_for(bytes)?;
                }
                self.chunk.add(number, message, bytes);
                self.lively = Instant::now();
            }
            Ok(None) => {}
            Err(problem) => self.summary.refuse(number, problem),
        }
        self.taken = number;
        if self.chunk.messages.is_empty() {
            self.stored_through = number;
        }
        Ok(())
    }

    /// The message of a line and its size; nothing for an empty line.
    fn read(&self, text: Text) -> Result<Option<(NewMessage, usize)>, Problem> {
        let line: Bytes = match text {
            Text::Whole(line) => line,
            Text::TooLong => return Err(refusal::line_too_large(self.body_limit)),
        };
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let mut message = reading::line::<NewMessage>(&line)?;
        self.trace.mark(&mut message);
        Ok(Some((message, line.len())))
    }

    /// Stores the chunk.
    async fn store(&mut self) -> Result<(), Problem> {
        let messages = std::mem::take(&mut self.chunk.messages);
        self.chunk.bytes = 0;
        let is_one = messages.len() == 1;
        let enqueued = self.queue.enqueue(messages).await;
        self.lively = Instant::now();
        // To give some back never fails.
        let _ = self.chunk.memory.resize(0);
        match enqueued {
            Ok(enqueued) => self.summary.count(&enqueued),
            // As it is kept, the message is larger than its line.
            Err(error @ (Error::TooManyMessages(_) | Error::TooManyBytes(_))) if is_one => {
                self.summary.refuse(self.chunk.last_line, refusal::from_enqueue(error));
            }
            Err(error) => return Err(self.not_stored(error)),
        }
        self.stored_through = self.taken;
        Ok(())
    }

    fn not_stored(&mut self, error: Error) -> Problem {
        let (first, last) = (self.chunk.first_line, self.chunk.last_line);
        self.stored_through = first - 1;
        let in_doubt = matches!(error, Error::Unavailable(_));
        let mut problem = refusal::from_enqueue(error);
        if !in_doubt {
            return problem;
        }
        problem.detail = format!(
            "Redis went away: lines {first} to {last} may be stored or not, none after them is; send these again when it \
             is back. A message with an id of its own is not stored twice"
        );
        problem.with_in_doubt(InDoubt { from: first, to: last })
    }

    /// Says in a refusal how far it came.
    fn tell(self, problem: Problem) -> Problem {
        problem.with_lines(self.stored_through, &self.summary)
    }
}

//! The standard output of a program, up to the size of a result.

use queue_core::MAX_RESULT_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a program prints, as far as it can be a result.
pub(super) struct Captured<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

/// More was printed than can be a result.
pub(super) struct TooMuch;

impl<R: AsyncRead + Unpin> Captured<R> {
    /// From this pipe, or nothing at all.
    pub(super) fn of(pipe: Option<R>) -> Self {
        Self { pipe, bytes: Vec::new() }
    }

    /// Reads until the pipe is closed. What was read is kept when this is dropped half-way.
    pub(super) async fn read(&mut self) -> Result<(), TooMuch> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        // An error is an end like another: the exit status says how it went.
        while pipe.read_buf(&mut self.bytes).await.is_ok_and(|count| count > 0) {
            if self.bytes.len() > MAX_RESULT_BYTES {
                return Err(TooMuch);
            }
        }
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

//! Writes the standard error of a program to the log, line by line, up to a maximum number of lines and a maximum line
//! length.

use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::{info, warn};

/// The maximum number of bytes of a line that are logged.
const MAX_LINE_BYTES: usize = 2 * 1_024;
/// The maximum number of lines that are logged for one run.
const MAX_LOGGED_LINES: usize = 1_000;

/// Logs the standard error of a program. Bytes beyond the limits are read, so that the program does not block, and are
/// counted, but are not logged.
pub(super) struct StderrLog<R> {
    pipe: Option<R>,
    /// The current line, cut at its maximum length.
    line: Vec<u8>,
    lines: usize,
    cut_bytes: u64,
    last_line: String,
}

impl<R: AsyncRead + Unpin> StderrLog<R> {
    /// Creates the log of a program from the pipe of the program's standard error.
    pub(super) fn from_pipe(pipe: Option<R>) -> Self {
        Self { pipe, line: Vec::new(), lines: 0, cut_bytes: 0, last_line: String::new() }
    }

    /// Reads and logs the standard error until the pipe is closed.
    pub(super) async fn log_until_closed(&mut self) {
        let Some(mut pipe) = self.pipe.take() else { return };
        let mut buffer = Vec::with_capacity(8 * 1_024);
        while pipe.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
            for part in buffer.split_inclusive(|byte| *byte == b'\n') {
                let (text, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
                let (kept, cut) = text.split_at(text.len().min(MAX_LINE_BYTES - self.line.len()));
                self.line.extend_from_slice(kept);
                self.cut_bytes += cut.len() as u64;
                if is_whole {
                    self.end_line();
                }
            }
            buffer.clear();
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(self.line.trim_ascii_end()).into_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        if self.lines < MAX_LOGGED_LINES {
            // The line is logged as a field, so that its text can't imitate a log record.
            info!(line, "stderr");
        } else {
            self.cut_bytes += line.len() as u64;
        }
        self.lines += 1;
        self.last_line = line;
    }

    /// Returns the last line of the standard error, which usually describes the error.
    pub(super) fn into_last_line(mut self) -> String {
        self.end_line();
        if self.cut_bytes > 0 {
            warn!(bytes = self.cut_bytes, "not all of stderr is logged");
        }
        self.last_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_stderr(stderr: &[u8]) -> StderrLog<&[u8]> {
        let mut log = StderrLog::from_pipe(Some(stderr));
        log.log_until_closed().await;
        log
    }

    #[tokio::test]
    async fn last_non_empty_line_of_stderr_is_kept() {
        for (stderr, last_line) in [
            (&b""[..], ""),
            (b"one\ntwo\n", "two"),
            (b"one\r\ntwo", "two"),
            (b"one\n\n \n", "one"),
            (b"\xffone", "\u{fffd}one"),
        ] {
            assert_eq!(read_stderr(stderr).await.into_last_line(), last_line);
        }
    }

    #[tokio::test]
    async fn stderr_memory_is_bounded_for_long_lines_and_many_lines() {
        let long_text = vec![b'x'; 1_000_000];
        let long_text = read_stderr(&long_text).await;
        assert_eq!(long_text.cut_bytes, 1_000_000 - MAX_LINE_BYTES as u64);
        assert_eq!(long_text.into_last_line().len(), MAX_LINE_BYTES);
        let many_lines = "x\n".repeat(MAX_LOGGED_LINES + 5);
        let many_lines = read_stderr(many_lines.as_bytes()).await;
        assert_eq!((many_lines.lines, many_lines.cut_bytes), (MAX_LOGGED_LINES + 5, 5));
    }
}

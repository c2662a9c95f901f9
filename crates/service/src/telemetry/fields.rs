//! Writes the fields of spans and events into the log. It is ours because the library's writing costs each request twice as much.

use std::{
    error::Error,
    fmt::{self, Write},
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::{RecordFields, VisitOutput},
    fmt::{
        FormatFields,
        format::{DefaultVisitor, Writer},
    },
};

/// Writes the fields of spans and events as the library does where there are no colours, at less than half of the cost: each
/// request has a span, and most are never shown.
pub(super) struct Plain;

/// What the fields of most spans need.
const USUAL: usize = 128;

impl<'w> FormatFields<'w> for Plain {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = Text { text: String::with_capacity(USUAL), written: Ok(()) };
        fields.record(&mut text);
        text.written?;
        writer.write_str(&text.text)
    }
}

struct Text {
    text: String,
    written: fmt::Result,
}

impl Text {
    /// What has forms of its own, or is rare.
    fn as_the_library(&mut self, write: impl FnOnce(&mut DefaultVisitor<'_>)) {
        let is_first = self.text.is_empty();
        let mut visitor = DefaultVisitor::new(Writer::new(&mut self.text), is_first);
        write(&mut visitor);
        self.written = self.written.and(visitor.finish());
    }

    fn begin(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text += name;
        self.text.push('=');
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_bare = value.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
        if is_special(field.name()) || !is_bare {
            return self.as_the_library(|visitor| visitor.record_str(field, value));
        }
        self.begin(field.name());
        self.text.push('"');
        self.text += value;
        self.text.push('"');
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.as_the_library(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_special(field.name()) {
            return self.as_the_library(|visitor| visitor.record_debug(field, value));
        }
        self.begin(field.name());
        self.written = self.written.and(write!(self.text, "{value:?}"));
    }
}

/// The message of an event, a field of the crate `log`, a name that is a word of Rust.
fn is_special(name: &str) -> bool {
    name == "message" || name.starts_with("log.") || name.starts_with("r#")
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{Subscriber, error, field, info, info_span, subscriber::with_default};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is written by a subscriber of what all spans and events do that there are here.
    fn written<S: Subscriber + Send + Sync + 'static>(subscriber: impl FnOnce(Log) -> S) -> String {
        let log = Log::default();
        with_default(subscriber(log.clone()), || {
            let (bare, odd) = ("/v1/queues/a b", "a\"b\\c\n\u{1b}ä");
            let span = info_span!("request", method = %"POST", bare, odd, empty = "", ?odd, late = field::Empty);
            let _in_span = span.entered();
            info!("told");
            tracing::Span::current().record("late", odd);
            let broken = io::Error::other("it broke\u{1b}");
            error!(%odd, error = &broken as &dyn Error, r#type = 1, nothing = 1.5, flag = true, "told {odd}");
            info!(message = odd, status = 201);
        });
        let text = log.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn they_are_written_as_the_library_writes_them() {
        let subscriber = |log| tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(log);
        let by_the_library = written(|log| subscriber(log).finish());
        assert_eq!(by_the_library.matches("request{").count(), 3, "{by_the_library}");
        assert_eq!(written(|log| subscriber(log).fmt_fields(Plain).finish()), by_the_library);
    }
}

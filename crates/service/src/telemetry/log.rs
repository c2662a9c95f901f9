//! The format of log records. A writer escapes characters that would end a line or change its display, because clients control
//! some texts. The fields of spans have their own formatter, because the formatter of tracing-subscriber costs twice as much per
//! request.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    io::{self, Stdout, Write},
    time::Duration,
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::{RecordFields, VisitOutput},
    fmt::{
        FormatFields, MakeWriter,
        format::{DefaultVisitor, Writer},
    },
};

/// Returns a duration in milliseconds for a log record, rounded to whole microseconds.
pub fn rounded_millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Formats the fields of spans and events as tracing-subscriber does without colours, at less than half of the cost. The cost
/// of formatting matters, because each request has a span, although most spans are never logged.
pub(super) struct PlainFields;

/// The buffer size that suffices for the fields of most spans.
const USUAL_FIELD_BYTES: usize = 128;

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_text = FieldText { text: String::with_capacity(USUAL_FIELD_BYTES), written: Ok(()) };
        fields.record(&mut fields_text);
        fields_text.written?;
        writer.write_str(&fields_text.text)
    }
}

struct FieldText {
    text: String,
    written: fmt::Result,
}

impl FieldText {
    /// Lets tracing-subscriber write a field that needs a special format or that is rare.
    fn write_with_tracing_subscriber(&mut self, write: impl FnOnce(&mut DefaultVisitor<'_>)) {
        let is_first = self.text.is_empty();
        let mut field_visitor = DefaultVisitor::new(Writer::new(&mut self.text), is_first);
        write(&mut field_visitor);
        self.written = self.written.and(field_visitor.finish());
    }

    fn begin_field(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text += name;
        self.text.push('=');
    }
}

impl Visit for FieldText {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_printable = value.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
        if has_special_format(field.name()) || !is_printable {
            return self.write_with_tracing_subscriber(|visitor| visitor.record_str(field, value));
        }
        self.begin_field(field.name());
        self.text.push('"');
        self.text += value;
        self.text.push('"');
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.write_with_tracing_subscriber(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if has_special_format(field.name()) {
            return self.write_with_tracing_subscriber(|visitor| visitor.record_debug(field, value));
        }
        self.begin_field(field.name());
        self.written = self.written.and(write!(self.text, "{value:?}"));
    }
}

/// Returns whether tracing-subscriber formats a field of this name specially: the message, a field of the crate `log`, or a raw
/// identifier (`r#type`).
fn has_special_format(name: &str) -> bool {
    name == "message" || name.starts_with("log.") || name.starts_with("r#")
}

/// Writes each record to standard output, and escapes characters that would end its line or change its display.
pub(super) struct EscapedOutput {
    /// Whether tracing-subscriber writes escape sequences for colours. With colours, `RecordWriter` does not escape these
    /// sequences. tracing-subscriber itself escapes the sequences in fields.
    pub(super) colours: bool,
}

impl MakeWriter<'_> for EscapedOutput {
    type Writer = RecordWriter<Stdout>;

    fn make_writer(&self) -> Self::Writer {
        RecordWriter { to: io::stdout(), colours: self.colours }
    }
}

/// A writer of log records. tracing-subscriber passes one whole record to each call of `write`.
pub(super) struct RecordWriter<W> {
    to: W,
    colours: bool,
}

impl<W: Write> Write for RecordWriter<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.to.write_all(&escape_record(record, self.colours))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn escape_record(record: &[u8], colours: bool) -> Cow<'_, [u8]> {
    let (text, end) = record.strip_suffix(b"\n").map_or((record, ""), |text| (text, "\n"));
    // Nearly all records have only printable ASCII.
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(record);
    }
    let text = String::from_utf8_lossy(text);
    let mut escaped_record = String::with_capacity(record.len() + 16);
    for char in text.chars() {
        match char {
            '\u{1b}' if colours => escaped_record.push(char),
            '\n' => escaped_record.push_str("\\n"),
            // A misleading character is written as a JSON escape, because the record may be JSON. Each misleading character has
            // a code of at most four hexadecimal digits.
            char if must_be_escaped(char) => {
                let _ = write!(escaped_record, "\\u{:04x}", u32::from(char));
            }
            char => escaped_record.push(char),
        }
    }
    escaped_record.push_str(end);
    Cow::Owned(escaped_record.into_bytes())
}

/// Returns whether a character is a control character, ends a line or paragraph, has no width, or changes the direction of
/// text.
fn must_be_escaped(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use tracing::{Subscriber, error, field, info, info_span, subscriber::with_default};

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

    /// Returns the log that a subscriber writes for sample spans and events.
    fn written_log<S: Subscriber + Send + Sync + 'static>(subscriber: impl FnOnce(Log) -> S) -> String {
        let log = Log::default();
        with_default(subscriber(log.clone()), || {
            let (bare, odd) = ("/v1/queues/a b", "a\"b\\c\n\u{1b}ä");
            let span = info_span!("request", method = %"POST", bare, odd, empty = "", ?odd, late = field::Empty);
            let _in_span = span.entered();
            info!("event");
            tracing::Span::current().record("late", odd);
            let broken_error = io::Error::other("it broke\u{1b}");
            error!(%odd, error = &broken_error as &dyn Error, r#type = 1, nothing = 1.5, flag = true, "event {odd}");
            info!(message = odd, status = 201);
            info!(duration_ms = rounded_millis(Duration::from_nanos(1_234_567)), "answered");
        });
        let log_bytes = log.0.lock().unwrap().clone();
        String::from_utf8(log_bytes).unwrap()
    }

    #[test]
    fn log_fields_are_written_as_tracing_subscriber_writes_them() {
        let subscriber = |log| tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(log);
        let library_log = written_log(|log| subscriber(log).finish());
        assert_eq!(library_log.matches("request{").count(), 4, "{library_log}");
        assert!(library_log.contains("answered duration_ms=1.235\n"), "{library_log}");
        assert_eq!(written_log(|log| subscriber(log).fmt_fields(PlainFields).finish()), library_log);
    }

    fn written_record(record: &str, colours: bool) -> String {
        let mut records = RecordWriter { to: Vec::new(), colours };
        records.write_all(record.as_bytes()).unwrap();
        String::from_utf8(records.to).unwrap()
    }

    #[test]
    fn log_record_is_one_line_and_shows_all_its_characters() {
        for (record, expected) in [
            ("INFO id=\"a\" done\n", "INFO id=\"a\" done\n"),
            ("grüße ✅\n", "grüße ✅\n"),
            ("a\u{202e}b\u{2028}c\u{85}d\n", "a\\u202eb\\u2028c\\u0085d\n"),
            ("one\ntwo\n", "one\\ntwo\n"),
            ("{\"id\":\"\u{2066}\u{7f}\"}\n", "{\"id\":\"\\u2066\\u007f\"}\n"),
            ("\u{1b}[31mred\n", "\\u001b[31mred\n"),
        ] {
            assert_eq!(written_record(record, false), expected);
        }
        assert_eq!(written_record("\u{1b}[31mr\u{202e}\n", true), "\u{1b}[31mr\\u202e\n", "colours stay");
    }
}

//! The end of the log: whatever a client wrote into an id, a path or an error, a record is one line, and shows what stands in it.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Stdout, Write},
};

use tracing_subscriber::fmt::MakeWriter;

/// Writes each record to standard output with the characters escaped that would end its line, or change how the rest of it is
/// shown.
pub(super) struct Escaped {
    /// Whether the record itself has escape sequences: colours. The library escapes those of fields.
    pub(super) colours: bool,
}

impl MakeWriter<'_> for Escaped {
    type Writer = Records<Stdout>;

    fn make_writer(&self) -> Self::Writer {
        Records { to: io::stdout(), colours: self.colours }
    }
}

/// Takes a whole record with each write, as the library hands them over.
pub(super) struct Records<W> {
    to: W,
    colours: bool,
}

impl<W: Write> Write for Records<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.to.write_all(&escape(record, self.colours))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn escape(record: &[u8], colours: bool) -> Cow<'_, [u8]> {
    let (text, end) = record.strip_suffix(b"\n").map_or((record, ""), |text| (text, "\n"));
    // As nearly all are.
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(record);
    }
    let text = String::from_utf8_lossy(text);
    let mut escaped = String::with_capacity(record.len() + 16);
    for char in text.chars() {
        match char {
            '\u{1b}' if colours => escaped.push(char),
            '\n' => escaped.push_str("\\n"),
            // As JSON has it, where the record may be JSON: all of these have four digits.
            char if misleads(char) => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(char));
            }
            char => escaped.push(char),
        }
    }
    escaped.push_str(end);
    Cow::Owned(escaped.into_bytes())
}

/// Control characters, ends of lines and paragraphs, what has no width, and what turns the direction of text.
fn misleads(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(record: &str, colours: bool) -> String {
        let mut records = Records { to: Vec::new(), colours };
        records.write_all(record.as_bytes()).unwrap();
        String::from_utf8(records.to).unwrap()
    }

    #[test]
    fn a_record_is_one_line_and_shows_what_stands_in_it() {
        for (record, expected) in [
            ("INFO id=\"a\" done\n", "INFO id=\"a\" done\n"),
            ("grüße ✅\n", "grüße ✅\n"),
            ("a\u{202e}b\u{2028}c\u{85}d\n", "a\\u202eb\\u2028c\\u0085d\n"),
            ("one\ntwo\n", "one\\ntwo\n"),
            ("{\"id\":\"\u{2066}\u{7f}\"}\n", "{\"id\":\"\\u2066\\u007f\"}\n"),
            ("\u{1b}[31mred\n", "\\u001b[31mred\n"),
        ] {
            assert_eq!(written(record, false), expected);
        }
        assert_eq!(written("\u{1b}[31mr\u{202e}\n", true), "\u{1b}[31mr\\u202e\n", "colours stay");
    }
}

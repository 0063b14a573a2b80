//! Escapes text chosen by senders for terminals.
//!
//! Anyone who may publish chooses a source, an id, a label; a control character in it could move the cursor,
//! set the window title or make one line look like two. Every such character is written as in JSON, `\u001b`,
//! in text and in JSON alike.

use std::fmt::{self, Debug, Display, Formatter, Write};
use std::io;

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// Whether a character affects others: a control character (C0, DEL, C1), an end of line or paragraph, or a
/// change of direction.
fn is_control(c: char) -> bool {
    let changes_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || changes_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Displays a value with each control character as `\u` and four hexadecimal digits. JSON stays valid,
/// because they occur only within strings.
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_control) {
            let (good, from) = rest.split_at(at);
            self.0.write_str(good)?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                write!(self.0, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Writes a field of a log line: the message alone, others as `name=value`.
pub fn log_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = Escaped(format_args!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// Standard error for lines of JSON, each written at once.
#[derive(Clone, Copy, Debug)]
pub struct JsonLog;

impl io::Write for JsonLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(escaped_line(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn escaped_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("{}\n", Escaped(text.trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::debug_fn;
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn characters_that_move_the_cursor_the_line_or_the_direction_are_escaped() {
        let evil = "a\x1b[2J\x07\r\n\tb\x7f\u{85}\u{9b}c\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}é漢 \\";
        let shown =
            r"a\u001b[2J\u0007\u000d\u000a\u0009b\u007f\u0085\u009bc\u2028\u2029\u202e\u2066\u200fé漢 \";
        assert_eq!(Escaped(evil).to_string(), shown);
        assert_eq!(Escaped("").to_string(), "");
        assert!(Escaped(format_args!("{evil}{evil}")).to_string().chars().all(|c| !is_control(c)));
    }

    #[test]
    fn json_says_the_same_as_before() {
        let value = serde_json::json!({"a\u{9f}\n": "\u{7f}\u{2028}\"\\\u{202d}"});
        let text = Escaped(&value).to_string();
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_line_of_the_log_stays_one_line() {
        let evil = "a\x1b[31m\u{9d}\u{2028}\r\n2000-01-01 INFO b";
        for with_colours in [false, true] {
            let written = Written::default();
            let fields = debug_fn(log_field).delimited(" ");
            let layer = fmt::layer().fmt_fields(fields).with_writer(written.clone()).with_ansi(with_colours);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::warn!(source = evil, error = %evil, "from {evil}");
            });
            let line = written.text();
            let ours = ["\x1b[0m", "\x1b[2m", "\x1b[3m", "\x1b[33m"]
                .iter()
                .fold(line.clone(), |line, colour| line.replace(colour, ""));
            assert_eq!(line != ours, with_colours);
            let shown = r"a\u001b[31m\u009d\u2028\u000d\u000a2000-01-01 INFO b";
            assert!(
                ours.ends_with(&format!(" error={shown}\n"))
                    && ours.contains(&format!(" from {shown} source=\"a")),
                "{ours}"
            );
            assert_eq!(ours.trim_end_matches('\n').find(is_control), None, "{line:?}");
        }

        let written = Written::default();
        let layer = fmt::layer().json().with_writer(written.clone());
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(layer),
            || tracing::warn!(error = %evil, "{evil}"),
        );
        let line = escaped_line(written.text().as_bytes());
        assert_eq!(line.trim_end_matches('\n').find(is_control), None, "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["fields"]["error"], evil);
    }

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }
}

//! The log of a binary: one event, one line, on stderr, and nobody waits for it.
//!
//! Lines go through a bounded queue to a thread that writes them; when its reader is too slow,
//! lines are dropped and counted. What peers say is in some of them, so every control character
//! is written as an escape.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Lines that may wait to be written.
const LINES_MAX: usize = 16_384;
/// Bytes of a line of text; the rest is cut.
const LINE_MAX: usize = 16 << 10;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How events are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Begins to log to stderr what `RUST_LOG` says, `info` by default. What is logged is written
/// until the guard is dropped.
///
/// # Panics
/// If the process has begun to log before.
pub fn log_to_stderr(format: LogFormat) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .thread_name("aip-log")
        .finish(io::stderr());
    DROPPED.get_or_init(|| writer.error_counter());
    let lines = Lines { writer, cut: format == LogFormat::Text };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(lines);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    guard
}

/// Lines of the log that had no room.
pub(super) fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Makes one line of each event.
#[derive(Clone, Debug)]
struct Lines<W> {
    writer: W,
    /// Whether long lines are cut. JSON would be none then; its fields are cut where they come from.
    cut: bool,
}

impl<'a> MakeWriter<'a> for Lines<NonBlocking> {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl<W: Write> Write for Lines<W> {
    /// Takes one whole event, as the subscriber hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escape(text.trim_end_matches('\n'));
        if self.cut && LINE_MAX < line.len() {
            line.truncate(line.floor_char_boundary(LINE_MAX));
            line.push('…');
        }
        line.push('\n');
        self.writer.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// `text` without a character that could end a line, move a cursor or turn the writing round.
/// The escapes are those of JSON.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        let bidirectional = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let separates = matches!(character, '\u{2028}' | '\u{2029}');
        if character.is_control() || bidirectional || separates {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(events: &[&str]) -> String {
        let mut lines = Lines { writer: Vec::new(), cut: true };
        for event in events {
            lines.write_all(event.as_bytes()).unwrap();
        }
        String::from_utf8(lines.writer).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let events =
            ["a\nINFO forged\r\n", "b \u{1b}[31m\u{9b}x\u{2028}\u{202e}y\0\u{7f}\n", "c\n"];
        let text = written(&events);
        let expected = "a\\u000aINFO forged\\u000d\n\
                        b \\u001b[31m\\u009bx\\u2028\\u202ey\\u0000\\u007f\n\
                        c\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lines_are_cut() {
        let text = written(&[&"é".repeat(LINE_MAX)]);
        assert!(text.len() <= LINE_MAX + 4, "{}", text.len());
        assert!(text.ends_with("…\n"));
    }
}

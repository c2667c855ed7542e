//! Results in TAP version 14, and in JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::runner::Run;

/// Writes TAP version 14 as results come.
#[derive(Debug)]
pub struct Tap<W> {
    out: W,
    /// Whether names say their draft: they need not where there is one only.
    several_drafts: bool,
}

impl<W: Write> Tap<W> {
    /// Writes the header and the plan of `count` test points.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(mut out: W, comments: &[String], count: usize, drafts: usize) -> io::Result<Self> {
        writeln!(out, "TAP version 14")?;
        for comment in comments {
            writeln!(out, "# {comment}")?;
        }
        writeln!(out, "1..{count}")?;
        out.flush()?;
        Ok(Self { out, several_drafts: 1 < drafts })
    }

    /// Writes one test point.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn point(&mut self, run: &Run<'_>) -> io::Result<()> {
        let verdict = if run.outcome.is_ok() { "ok" } else { "not ok" };
        write!(self.out, "{verdict} {} - {}", run.index + 1, run.case.name)?;
        if self.several_drafts {
            write!(self.out, " draft-{}", run.version.number())?;
        }
        writeln!(self.out)?;
        writeln!(self.out, "  ---")?;
        writeln!(self.out, "  duration_ms: {}", run.duration.as_millis())?;
        if let Err(failure) = &run.outcome {
            writeln!(self.out, "  draft: {}", run.version.number())?;
            writeln!(self.out, "  section: \"{}\"", run.case.section)?;
            writeln!(self.out, "  message: {}", quoted(&run.case.about))?;
            writeln!(self.out, "  expected: {}", quoted(&failure.expected))?;
            writeln!(self.out, "  received: {}", quoted(&failure.received))?;
        }
        writeln!(self.out, "  ...")?;
        self.out.flush()
    }

    /// Says that nothing more can be tested.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn bail_out(mut out: W, reason: &str) -> io::Result<()> {
        writeln!(out, "TAP version 14\nBail out! {}", reason.escape_debug())
    }
}

/// A YAML string: JSON's are.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// One result as JSON.
pub fn json(run: &Run<'_>) -> Value {
    json!({
        "case": run.case.name,
        "draft": run.version.number(),
        "section": run.case.section,
        "about": run.case.about,
        "passed": run.outcome.is_ok(),
        "expected": run.outcome.as_ref().err().map(|failure| &failure.expected),
        "received": run.outcome.as_ref().err().map(|failure| &failure.received),
        "duration_ms": u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
    })
}

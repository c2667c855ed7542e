//! `--assert "p99 < 50ms, errors < 0.1%"`: conditions on a report, for CI.

use std::{fmt, str::FromStr};

use crate::{duration, report::Report};

/// One condition on a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    text: String,
    subject: Subject,
    comparison: Comparison,
    bound: f64,
    per_cent: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Subject {
    /// A statistic of a series; without a name, of the first.
    Time { series: Option<String>, statistic: Statistic },
    /// One of the counts.
    Count(String),
    /// Right answers per second.
    Rate,
    /// One of the figures.
    Figure(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Min,
    Mean,
    Max,
    Quantile(f64),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
}

/// What is wrong with a condition.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{text}` is no condition: {reason}. Examples: p99 < 50ms; service.p99.9 <= 1s; \
     latency[tool=echo].max < 2s; errors < 0.1%; lost == 0; rate > 1000"
)]
pub struct InvalidAssertion {
    text: String,
    reason: String,
}

/// Names of counts that may be asserted on.
const COUNTS: [&str; 8] =
    ["expected", "ok", "errors", "lost", "duplicated", "late", "wrong", "reordered"];

impl FromStr for Assertion {
    type Err = InvalidAssertion;

    fn from_str(text: &str) -> Result<Self, InvalidAssertion> {
        let text = text.trim();
        let wrong = |reason: &str| InvalidAssertion { text: text.into(), reason: reason.into() };
        // In labels `=` says something else.
        let operators_from = text.rfind(']').unwrap_or(0);
        let at =
            text[operators_from..].find(['<', '>', '=']).ok_or_else(|| wrong("no comparison"))?;
        let (left, rest) = text.split_at(operators_from + at);
        let operators = [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::MoreOrEqual),
            ("==", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::More),
            ("=", Comparison::Equal),
        ];
        let (comparison, right) = operators
            .into_iter()
            .find_map(|(sign, it)| Some((it, rest.strip_prefix(sign)?.trim())))
            .ok_or_else(|| wrong("no comparison"))?;
        let subject =
            subject(left.trim()).ok_or_else(|| wrong("it is not known what to compare"))?;
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong("no number"));
        let (bound, per_cent) = match (&subject, right.strip_suffix('%')) {
            (Subject::Time { .. }, _) => {
                let bound = duration::parse(right).map_err(|reason| wrong(&reason))?;
                (bound.as_nanos() as f64, false)
            }
            (Subject::Count(_), Some(share)) => (number(share)?, true),
            (Subject::Count(_) | Subject::Rate | Subject::Figure(_), _) => {
                (number(right.trim_end_matches("/s"))?, false)
            }
        };
        Ok(Self { text: text.to_owned(), subject, comparison, bound, per_cent })
    }
}

fn subject(text: &str) -> Option<Subject> {
    if text == "rate" {
        return Some(Subject::Rate);
    }
    if COUNTS.contains(&text) {
        return Some(Subject::Count(text.to_owned()));
    }
    if let Some(name) = text.strip_prefix("figure:") {
        return Some(Subject::Figure(name.trim().to_owned()));
    }
    // The statistic stands behind the last dot that is not its own: `service.p99.9`.
    let cut = text.rfind(".p").or_else(|| text.rfind('.').filter(|_| !text.starts_with('p')));
    let (series, name) = match cut {
        Some(dot) => (Some(text[..dot].to_owned()), &text[dot + 1..]),
        None => (None, text),
    };
    let statistic = match name {
        "min" => Statistic::Min,
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => {
            let share: f64 = name.strip_prefix('p')?.parse().ok()?;
            if !(0.0..=100.0).contains(&share) {
                return None;
            }
            Statistic::Quantile(share / 100.0)
        }
    };
    Some(Subject::Time { series, statistic })
}

/// Conditions in one text, with commas or semicolons between them.
///
/// # Errors
/// What is wrong with the first that is none.
pub fn parse_all(text: &str) -> Result<Vec<Assertion>, InvalidAssertion> {
    // Commas inside of labels do not count.
    let mut depth = 0_i32;
    let parts = text.split(|letter: char| {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && (letter == ',' || letter == ';')
    });
    parts.filter(|part| !part.trim().is_empty()).map(str::parse).collect()
}

/// What came of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// In words, with what was found.
    pub text: String,
}

impl Assertion {
    /// Whether a report meets the condition. What a report does not have meets none.
    pub fn check(&self, report: &Report) -> Verdict {
        let Some(found) = self.found(report) else {
            let text = format!("{}: the report has no such figure", self.text);
            return Verdict { holds: false, text };
        };
        let bound = self.bound;
        let holds = match self.comparison {
            Comparison::Less => found < bound,
            Comparison::LessOrEqual => found <= bound,
            Comparison::More => bound < found,
            Comparison::MoreOrEqual => bound <= found,
            Comparison::Equal => found == bound,
        };
        let shown = match &self.subject {
            Subject::Time { .. } => crate::report::time(nanoseconds(found)),
            _ if self.per_cent => format!("{found:.4} %"),
            _ => format!("{found}"),
        };
        let word = if holds { "holds" } else { "FAILS" };
        Verdict { holds, text: format!("{}: {word}, found {shown}", self.text) }
    }

    fn found(&self, report: &Report) -> Option<f64> {
        match &self.subject {
            Subject::Rate => Some(report.rate()),
            Subject::Figure(name) => report.figures.get(name).copied(),
            Subject::Count(name) => {
                let counts = &report.counts;
                let count = match name.as_str() {
                    "expected" => counts.expected,
                    "ok" => counts.ok,
                    "errors" => counts.errors_total(),
                    "lost" => counts.lost,
                    "duplicated" => counts.duplicated,
                    "late" => counts.late,
                    "wrong" => counts.wrong,
                    "reordered" => counts.reordered,
                    _ => return None,
                };
                let share = if self.per_cent {
                    (counts.expected != 0).then(|| 100.0 / counts.expected as f64)?
                } else {
                    1.0
                };
                Some(count as f64 * share)
            }
            Subject::Time { series, statistic } => {
                let series = match series {
                    None => report.main(),
                    // With the fewest other labels: what is said of all of them together.
                    Some(title) => report
                        .series
                        .iter()
                        .filter(|series| series.is_named(title))
                        .min_by_key(|series| series.labels.len()),
                }?;
                if series.summary.count == 0 {
                    return None;
                }
                Some(match *statistic {
                    Statistic::Min => series.summary.min as f64,
                    Statistic::Mean => series.summary.mean,
                    Statistic::Max => series.summary.max as f64,
                    Statistic::Quantile(share) => series.times().ok()?.quantile(share) as f64,
                })
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive and at most ten minutes"
)]
const fn nanoseconds(value: f64) -> u64 {
    value as u64
}

impl fmt::Display for Assertion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::Times,
        report::{Report, Series, tests_support::report},
    };

    fn sample() -> Report {
        let mut times = Times::default();
        for milliseconds in 1..=100_u64 {
            times.record(milliseconds * 1_000_000);
        }
        let mut report = report();
        report.series = vec![
            Series::new("latency", [], &times),
            Series::new("latency", [("tool", "echo"), ("method", "tools/call")], &times),
            Series::new("service", [], &times),
        ];
        report.counts.expected = 1_000;
        report.counts.ok = 999;
        report.counts.error("timeout");
        report.seconds = 10.0;
        report
    }

    #[track_caller]
    fn check(text: &str, holds: bool) {
        let verdict = text.parse::<Assertion>().unwrap().check(&sample());
        assert_eq!(verdict.holds, holds, "{}", verdict.text);
    }

    #[test]
    fn conditions_are_what_they_say() {
        check("p50 < 51ms", true);
        check("p50<49ms", false);
        check("p99.9 <= 101ms", true);
        check("max > 90ms", true);
        check("mean < 60ms", true);
        check("service.p99 < 50ms", false);
        check("service.p99.9 > 99ms", true);
        check("latency[method=tools/call,tool=echo].max < 200ms", true);
        check("latency[tool=echo].max < 200ms", true);
        check("latency[tool=other].max < 200ms", false);
        check("errors == 1", true);
        check("errors <= 0.1%", true);
        check("errors < 0.1%", false);
        check("lost = 0", true);
        check("rate > 99", true);
        check("rate >= 100/s", false);
    }

    #[test]
    fn what_is_not_there_holds_never() {
        check("last.p99 < 1h", false);
        check("figure:nothing < 5", false);
    }

    #[test]
    fn several_stand_in_one_text() {
        let all = parse_all("p99 < 20ms, errors < 0.1%; latency[a=b,c=d].p50 < 1s").unwrap();
        let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["p99 < 20ms", "errors < 0.1%", "latency[a=b,c=d].p50 < 1s"]);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "p99", "p99 < 5", "p101 < 5ms", "errors < x%", "speed < 3", "< 4"] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }
}

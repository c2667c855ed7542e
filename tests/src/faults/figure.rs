//! A measured number and its goal.

use serde_json::{Value, json as value};

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nothing: it is told for its own sake.
    None,
}

/// A measured number and its goal.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The case.
    pub case: &'static str,
    /// What was measured.
    pub what: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// What it has to be.
    pub goal: Goal,
}

impl Figure {
    /// A number of things, in so many.
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
    pub fn count(case: &'static str, what: impl Into<String>, value: u64, goal: Goal) -> Self {
        Self { case, what: what.into(), value: value as f64, unit: "", goal }
    }

    /// Whether it is as it has to be.
    pub fn is_met(&self) -> bool {
        match self.goal {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => least <= self.value,
            Goal::None => true,
        }
    }

    /// Whether it is a time, which says as much of the machine as of the relay.
    pub fn is_time(&self) -> bool {
        matches!(self.unit, "s" | "ms")
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("<= {most}"),
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::None => String::new(),
        }
    }
}

/// The value that so many of a hundred do not exceed; the values ascend.
pub(super) fn percentile(values: &[f64], of_hundred: usize) -> f64 {
    let index = (values.len() * of_hundred).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// The figures for people.
pub fn table(figures: &[Figure]) -> String {
    let mut table = format!("{:12} {:44} {:>14} {:>12}\n", "case", "figure", "measured", "goal");
    for figure in figures {
        let measured = format!("{:.6} {}", figure.value, figure.unit);
        let measured = match measured.split_once('.') {
            Some((whole, _)) if figure.value.fract() == 0.0 => format!("{whole} {}", figure.unit),
            _ => format!("{:.3} {}", figure.value, figure.unit),
        };
        let verdict = if figure.is_met() { "" } else { "  MISSED" };
        table.push_str(&format!(
            "{:12} {:44} {:>14} {:>12}{verdict}\n",
            figure.case,
            figure.what,
            measured.trim_end(),
            figure.goal()
        ));
    }
    table
}

/// The figures for machines.
pub fn json(figures: &[Figure]) -> Value {
    let figures = figures.iter().map(|figure| {
        value!({
            "case": figure.case,
            "figure": figure.what,
            "value": figure.value,
            "unit": figure.unit,
            "goal": figure.goal(),
            "met": figure.is_met(),
        })
    });
    Value::Array(figures.collect())
}

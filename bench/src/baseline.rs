//! Instruction counts that may only improve.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By how much a count may be above its baseline: 0.5 %.
const TOLERANCE: f64 = 0.005;

/// What was counted, by scenario.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Baseline {
    /// Of what build: counts of others are others.
    pub toolchain: String,
    /// Instructions of each scenario's unit.
    pub instructions: BTreeMap<String, f64>,
}

/// How a count stands to its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// There is none.
    New,
    /// As before, within the tolerance.
    Same,
    /// Fewer.
    Better,
    /// More.
    Worse,
}

impl Baseline {
    /// How a scenario's count stands.
    pub fn judge(&self, name: &str, count: f64) -> Verdict {
        match self.instructions.get(name) {
            None => Verdict::New,
            Some(before) if before * (1.0 + TOLERANCE) < count => Verdict::Worse,
            Some(before) if count < before * (1.0 - TOLERANCE) => Verdict::Better,
            Some(_) => Verdict::Same,
        }
    }

    /// Takes a count over, if it is new or better, or if worse ones may be taken.
    pub fn take(&mut self, name: &str, count: f64, worse: bool) {
        let verdict = self.judge(name, count);
        if matches!(verdict, Verdict::New | Verdict::Better) || verdict == Verdict::Worse && worse {
            self.instructions.insert(name.to_owned(), (count * 10.0).round() / 10.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_only_fall() {
        let mut baseline = Baseline::default();
        assert_eq!(baseline.judge("a", 1_000.0), Verdict::New);
        baseline.take("a", 1_000.0, false);
        assert_eq!(baseline.judge("a", 1_004.0), Verdict::Same);
        assert_eq!(baseline.judge("a", 1_006.0), Verdict::Worse);
        baseline.take("a", 1_006.0, false);
        assert_eq!(baseline.instructions["a"], 1_000.0);
        baseline.take("a", 900.0, false);
        assert_eq!(baseline.instructions["a"], 900.0);
        baseline.take("a", 950.0, true);
        assert_eq!(baseline.instructions["a"], 950.0);
    }
}

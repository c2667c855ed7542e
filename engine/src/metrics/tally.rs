//! Counts by reason, from a closed vocabulary.

use std::collections::BTreeMap;

/// Counts by reason. Reasons are part of the program, so no peer can add one; those that are known
/// stand there from the beginning, with 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// A count of 0 for each of these.
    pub fn of(reasons: impl IntoIterator<Item = &'static str>) -> Self {
        Self(reasons.into_iter().map(|reason| (reason, 0)).collect())
    }

    /// One more.
    pub fn count(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Sets what is a gauge.
    pub fn set(&mut self, reason: &'static str, value: u64) {
        self.0.insert(reason, value);
    }

    /// How many there were for this reason.
    pub fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// Every reason and its count, in the reasons' order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_reasons_are_there_from_the_beginning() {
        let mut tally = Tally::of(["late", "early"]);
        tally.count("late");
        let mut sum = Tally::of(["late"]);
        sum.add(&tally);
        assert_eq!(sum.iter().collect::<Vec<_>>(), [("early", 0), ("late", 1)]);
        assert_eq!((sum.get("late"), sum.get("never")), (1, 0));
    }
}

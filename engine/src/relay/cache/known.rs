//! Numbers of which something is known: ranges that never touch each other.

use std::collections::BTreeMap;

/// A set of numbers, kept as few ranges, inclusive at both ends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Known {
    ranges: BTreeMap<u64, u64>,
}

impl Known {
    /// Ranges held.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Adds the numbers from `first` to `last`.
    pub(crate) fn insert(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        // Whatever begins up to right behind the new range, and ends at right before it or later.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
    }

    /// Takes one number out.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some((start, end)) = self.range_of(number) else { return };
        self.ranges.remove(&start);
        if start < number {
            self.ranges.insert(start, number - 1);
        }
        if number < end {
            self.ranges.insert(number + 1, end);
        }
    }

    /// Takes the whole range out that `number` lies in.
    pub(crate) fn remove_range_of(&mut self, number: u64) {
        if let Some((start, _)) = self.range_of(number) {
            self.ranges.remove(&start);
        }
    }

    /// Takes the range of the lowest numbers out.
    pub(crate) fn remove_first(&mut self) {
        self.ranges.pop_first();
    }

    /// Whether a number is in.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// The last number of the range that `number` lies in.
    pub(crate) fn end_of(&self, number: u64) -> Option<u64> {
        self.range_of(number).map(|(_, end)| end)
    }

    /// Whether `number` or one above it is in.
    pub(crate) fn has_any_from(&self, number: u64) -> bool {
        self.ranges.last_key_value().is_some_and(|(_, &end)| number <= end)
    }

    fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.ranges.range(..=number).next_back()?;
        (number <= end).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Operation {
        Insert(u64, u64),
        Remove(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (0_u64..40, 0_u64..6).prop_map(|(first, more)| Operation::Insert(first, first + more)),
            (0_u64..46).prop_map(Operation::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(operations in prop::collection::vec(operation(), 0..60)) {
            let mut known = Known::default();
            let mut model = BTreeSet::new();
            for operation in operations {
                match operation {
                    Operation::Insert(first, last) => {
                        known.insert(first, last);
                        model.extend(first..=last);
                    }
                    Operation::Remove(number) => {
                        known.remove(number);
                        model.remove(&number);
                    }
                }
                for number in 0..50 {
                    prop_assert_eq!(known.contains(number), model.contains(&number));
                    let end = (number..50).take_while(|next| model.contains(next)).last();
                    prop_assert_eq!(known.end_of(number), end);
                }
                let runs = model.iter().filter(|n| **n == 0 || !model.contains(&(**n - 1))).count();
                prop_assert_eq!(known.len(), runs, "ranges that touch are one");
            }
        }
    }

    #[test]
    fn what_lies_at_a_number_or_above_is_found() {
        let mut known = Known::default();
        assert!(!known.has_any_from(0));
        known.insert(3, 5);
        assert!(known.has_any_from(0) && known.has_any_from(5) && !known.has_any_from(6));
    }

    #[test]
    fn the_largest_numbers_have_a_place() {
        let mut known = Known::default();
        known.insert(u64::MAX, u64::MAX);
        known.insert(5, u64::MAX - 1);
        assert_eq!((known.len(), known.end_of(5)), (1, Some(u64::MAX)));
        known.remove(u64::MAX);
        assert_eq!(known.end_of(5), Some(u64::MAX - 1));
        known.insert(9, 3);
        assert_eq!(known.len(), 1, "an empty range is nothing");
    }
}

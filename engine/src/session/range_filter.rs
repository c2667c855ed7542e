//! Which tracks and objects pass a request's range filters (draft-22 section 3.3.2).

use aip_codec::moqt::{
    filter::{RangeFilter, Ranges},
    id::SubgroupId,
    location::Location,
    parameter::Parameters,
    property::Properties,
};

/// What a range filter looks at.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Subject {
    Subgroup,
    ObjectId,
    Priority,
    ObjectProperty,
    TrackProperty,
}

const SUBJECTS: [Subject; 5] = [
    Subject::Subgroup,
    Subject::ObjectId,
    Subject::Priority,
    Subject::ObjectProperty,
    Subject::TrackProperty,
];

/// What filters look at of an object.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it stands.
    pub location: Location,
    /// Its subgroup; `None` if it was published as a datagram, which no subgroup filter lets pass.
    pub subgroup: Option<SubgroupId>,
    /// The publisher's priority.
    pub priority: u8,
    /// Its own properties, not its track's.
    pub properties: &'a Properties,
}

/// Range filters that contradict the draft, or are more than was offered: their request is refused
/// with INVALID_FILTER.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("range filters that mean nothing, or are too many")]
pub struct InvalidRangeFilters;

/// The range filters of one request.
///
/// Filters of one set must all pass; one set of several must. Without filters everything passes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RangeFilters {
    /// In the order of their sets.
    rules: Vec<(Subject, Ranges)>,
}

impl RangeFilters {
    /// The filters that a request begins with; at most `ranges_max` ranges in all.
    ///
    /// # Errors
    /// If a filter is none, is there twice, or there are more ranges than that.
    pub fn of(parameters: &Parameters, ranges_max: u64) -> Result<Self, InvalidRangeFilters> {
        let mut filters = Self::default();
        filters.update(parameters, ranges_max)?;
        Ok(filters)
    }

    /// Changes the filters as a REQUEST_UPDATE says: those of each type that it has replace all of
    /// that type. On an error they are as before.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn update(
        &mut self,
        parameters: &Parameters,
        ranges_max: u64,
    ) -> Result<(), InvalidRangeFilters> {
        let mut rules = self.rules.clone();
        for subject in SUBJECTS {
            let said = subject.filters(parameters)?;
            let Some(said) = said else { continue };
            rules.retain(|(other, _)| *other != subject);
            rules.extend(said.into_iter().map(|ranges| (subject, ranges)));
        }
        let count: usize = rules.iter().map(|(_, ranges)| ranges.ranges.len()).sum();
        if ranges_max < count as u64 || has_duplicate(&rules) {
            return Err(InvalidRangeFilters);
        }
        rules.sort_by_key(|(_, ranges)| ranges.set);
        self.rules = rules;
        Ok(())
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether an object passes.
    pub fn passes(&self, object: &Candidate<'_>) -> bool {
        self.rules.is_empty()
            || self.sets().any(|set| set.iter().all(|rule| passes_rule(rule, object)))
    }

    /// What is left to look at in the objects of a track with these properties; `None` if the track
    /// itself does not pass.
    pub fn for_track(&self, properties: &Properties) -> Option<Self> {
        if self.rules.is_empty() {
            return Some(Self::default());
        }
        let mut rules = Vec::new();
        let mut passes = false;
        for set in self.sets().filter(|set| set.iter().all(|rule| fits_track(rule, properties))) {
            passes = true;
            let before = rules.len();
            rules.extend(set.iter().filter(|(on, _)| *on != Subject::TrackProperty).cloned());
            if rules.len() == before {
                // Nothing more is asked in this set: every object passes.
                return Some(Self::default());
            }
        }
        passes.then_some(Self { rules })
    }

    fn sets(&self) -> impl Iterator<Item = &[(Subject, Ranges)]> {
        self.rules.chunk_by(|(_, one), (_, other)| one.set == other.set)
    }
}

impl Subject {
    /// What a message says of this subject: `None` if nothing, an empty list if it wants no filter.
    fn filters(self, parameters: &Parameters) -> Result<Option<Vec<Ranges>>, InvalidRangeFilters> {
        let mut said = None;
        let mut note = |filter: &RangeFilter| {
            let ranges = match self {
                Self::Priority => filter.priority_ranges(),
                Self::Subgroup | Self::ObjectId => filter.ranges(false),
                Self::ObjectProperty | Self::TrackProperty => filter.ranges(true),
            };
            let ranges = ranges.map_err(|_| InvalidRangeFilters)?;
            said.get_or_insert_with(Vec::new).extend(ranges);
            Ok(())
        };
        match self {
            Self::Subgroup => parameters.subgroup_filters().try_for_each(&mut note)?,
            Self::ObjectId => parameters.object_id_filters().try_for_each(&mut note)?,
            Self::Priority => parameters.priority_filters().try_for_each(&mut note)?,
            Self::ObjectProperty => parameters.object_property_filters().try_for_each(&mut note)?,
            Self::TrackProperty => parameters.track_property_filters().try_for_each(&mut note)?,
        }
        Ok(said)
    }
}

fn passes_rule((subject, ranges): &(Subject, Ranges), object: &Candidate<'_>) -> bool {
    let value = match subject {
        Subject::Subgroup => object.subgroup.map(|subgroup| subgroup.0),
        Subject::ObjectId => Some(object.location.object.0),
        Subject::Priority => Some(u64::from(object.priority)),
        Subject::ObjectProperty => {
            ranges.property_type.and_then(|kind| object.properties.integer(kind))
        }
        // Decided when the track was.
        Subject::TrackProperty => return true,
    };
    value.is_some_and(|value| ranges.contains(value))
}

fn fits_track((subject, ranges): &(Subject, Ranges), properties: &Properties) -> bool {
    *subject != Subject::TrackProperty
        || ranges
            .property_type
            .and_then(|kind| properties.integer(kind))
            .is_some_and(|value| ranges.contains(value))
}

/// Whether two filters have the same type, set and property.
fn has_duplicate(rules: &[(Subject, Ranges)]) -> bool {
    let mut seen: Vec<_> = rules
        .iter()
        .map(|(subject, ranges)| (*subject, ranges.set, ranges.property_type))
        .collect();
    seen.sort_unstable();
    seen.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use aip_codec::moqt::{filter::Range, parameter::Parameter};

    use super::*;

    fn filter(set: u8, property_type: Option<u64>, ranges: &[(u64, u64)]) -> RangeFilter {
        let ranges = ranges.iter().map(|&(start, end)| Range { start, end }).collect();
        RangeFilter::from_ranges(&Ranges { set, property_type, ranges })
    }

    fn all(list: &[Parameter]) -> Parameters {
        list.iter().fold(Parameters::default(), |all, one| all.with(one.clone()))
    }

    fn candidate(
        subgroup: u64,
        object: u64,
        priority: u8,
        properties: &Properties,
    ) -> Candidate<'_> {
        let (location, subgroup) = (Location::new(1, object), Some(SubgroupId(subgroup)));
        Candidate { location, subgroup, priority, properties }
    }

    #[test]
    fn sets_are_joined_by_or_and_filters_of_a_set_by_and() {
        let none = Properties::default();
        let parameters = all(&[
            Parameter::SubgroupFilter(filter(0, None, &[(1, 1), (5, 6)])),
            Parameter::ObjectIdFilter(filter(0, None, &[(0, 9)])),
            Parameter::PriorityFilter(filter(3, None, &[(7, 7)])),
        ]);
        let filters = RangeFilters::of(&parameters, 4).unwrap();
        let passes = |subgroup, object, priority| {
            filters.passes(&candidate(subgroup, object, priority, &none))
        };
        assert!(passes(1, 9, 0) && passes(6, 0, 0) && passes(2, 99, 7));
        assert!(!passes(1, 10, 0) && !passes(2, 0, 0) && !passes(2, 99, 8));
        assert_eq!(RangeFilters::of(&parameters, 3), Err(InvalidRangeFilters));
        let datagram = Candidate { subgroup: None, ..candidate(1, 1, 0, &none) };
        assert!(!filters.passes(&datagram), "it has no subgroup to be in the range");
    }

    #[test]
    fn a_property_that_is_not_there_does_not_pass() {
        let parameters =
            all(&[Parameter::ObjectPropertyFilter(filter(0, Some(0x3a10), &[(2, 3)]))]);
        let filters = RangeFilters::of(&parameters, 64).unwrap();
        for (value, expected) in [(None, false), (Some(1), false), (Some(2), true)] {
            let builder = Properties::builder();
            let builder = match value {
                Some(value) => builder.integer(0x3a10, value),
                None => builder,
            };
            let properties = builder.build().unwrap();
            assert_eq!(filters.passes(&candidate(0, 0, 0, &properties)), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_twice_or_nonsense_is_refused() {
        let twice = all(&[
            Parameter::ObjectIdFilter(filter(1, None, &[(0, 9)])),
            Parameter::ObjectIdFilter(filter(1, None, &[(20, 29)])),
        ]);
        let priority = all(&[Parameter::PriorityFilter(filter(1, None, &[(0, 256)]))]);
        let odd = all(&[Parameter::ObjectPropertyFilter(filter(1, Some(3), &[(0, 9)]))]);
        for parameters in [twice, priority, odd] {
            assert_eq!(RangeFilters::of(&parameters, 64), Err(InvalidRangeFilters));
        }
        let two_properties = all(&[
            Parameter::ObjectPropertyFilter(filter(1, Some(2), &[(0, 9)])),
            Parameter::ObjectPropertyFilter(filter(1, Some(4), &[(0, 9)])),
        ]);
        assert!(RangeFilters::of(&two_properties, 64).is_ok());
    }

    #[test]
    fn an_update_replaces_a_type_and_an_empty_one_removes_it() {
        let none = Properties::default();
        let begin = all(&[
            Parameter::ObjectIdFilter(filter(0, None, &[(0, 9)])),
            Parameter::SubgroupFilter(filter(0, None, &[(1, 1)])),
        ]);
        let mut filters = RangeFilters::of(&begin, 64).unwrap();
        let moved = all(&[Parameter::ObjectIdFilter(filter(0, None, &[(20, 29)]))]);
        filters.update(&moved, 64).unwrap();
        assert!(filters.passes(&candidate(1, 20, 0, &none)));
        assert!(!filters.passes(&candidate(1, 5, 0, &none)));
        assert!(!filters.passes(&candidate(2, 20, 0, &none)), "the other filter stands");
        let nothing = all(&[
            Parameter::ObjectIdFilter(RangeFilter::default()),
            Parameter::SubgroupFilter(RangeFilter::default()),
        ]);
        filters.update(&nothing, 64).unwrap();
        assert!(filters.is_empty());
    }

    #[test]
    fn a_track_passes_by_its_properties() {
        let track = Properties::builder().integer(0x3a12, 5).build().unwrap();
        let other = Properties::builder().integer(0x3a12, 1).build().unwrap();
        let parameters = all(&[
            Parameter::TrackPropertyFilter(filter(0, Some(0x3a12), &[(5, 5)])),
            Parameter::ObjectIdFilter(filter(0, None, &[(0, 9)])),
        ]);
        let filters = RangeFilters::of(&parameters, 64).unwrap();
        assert_eq!(filters.for_track(&other), None);
        let left = filters.for_track(&track).unwrap();
        let none = Properties::default();
        assert!(
            left.passes(&candidate(0, 9, 0, &none)) && !left.passes(&candidate(0, 10, 0, &none))
        );
        // A set that asks nothing of the track lets every track pass.
        let either = all(&[
            Parameter::TrackPropertyFilter(filter(0, Some(0x3a12), &[(5, 5)])),
            Parameter::ObjectIdFilter(filter(1, None, &[(0, 9)])),
        ]);
        let filters = RangeFilters::of(&either, 64).unwrap();
        assert!(filters.for_track(&track).unwrap().is_empty());
        let left = filters.for_track(&other).unwrap();
        assert!(!left.passes(&candidate(0, 10, 0, &none)));
    }
}

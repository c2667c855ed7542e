//! What a location filter means, given the largest location known (draft-22 section 3.3).

use aip_codec::{
    Version,
    moqt::{filter::LocationFilter, id::ObjectId, location::Location},
};

/// First and last location that a subscription's filter lets pass, given the largest one known.
pub fn subscription_range(
    filter: LocationFilter,
    largest: Option<Location>,
) -> (Location, Location) {
    let first = Location::default();
    match filter {
        LocationFilter::None => (first, Location::MAX),
        LocationFilter::NextObject => (largest.map_or(first, Location::next_object), Location::MAX),
        LocationFilter::Relative { groups_back } => {
            (relative_start(groups_back, largest), Location::MAX)
        }
        LocationFilter::Start { start } => (start, Location::MAX),
        LocationFilter::Groups { start, end_group } => {
            (start, Location::new(end_group.0, u64::MAX))
        }
        LocationFilter::Range { start, end } => (start, end),
    }
}

/// First and last location of a fetch or fill: as for a subscription, but never beyond `largest`.
pub fn fetch_range(filter: LocationFilter, largest: Location) -> (Location, Location) {
    let (start, end) = subscription_range(filter, Some(largest));
    (start, end.min(largest))
}

/// The last location of a FETCH_OK, inclusive, whose end its draft writes as `end`: drafts 18 and 19
/// write one past the last object, and 0 for the whole group.
pub const fn fetch_ok_end(version: Version, end: Location) -> Location {
    if 20 <= version.number() {
        return end;
    }
    Location { group: end.group, object: ObjectId(end.object.0.wrapping_sub(1)) }
}

/// The first location of the group `largest.group + 1 - groups_back`.
fn relative_start(groups_back: u64, largest: Option<Location>) -> Location {
    let group = largest.map_or(0, |largest| {
        let next = u128::from(largest.group.0) + 1;
        let group = next.saturating_sub(u128::from(groups_back));
        u64::try_from(group).unwrap_or(u64::MAX)
    });
    Location::new(group, 0)
}

#[cfg(test)]
mod tests {
    use aip_codec::moqt::id::GroupId;

    use super::*;

    #[test]
    fn relative_filters_count_back_from_the_next_group() {
        let largest = Some(Location::new(7, 3));
        let start =
            |groups_back| subscription_range(LocationFilter::Relative { groups_back }, largest).0;
        assert_eq!(start(0), Location::new(8, 0));
        assert_eq!(start(1), Location::new(7, 0));
        assert_eq!(start(100), Location::new(0, 0));
        let last = Some(Location::new(u64::MAX, 0));
        let filter = LocationFilter::Relative { groups_back: 0 };
        assert_eq!(subscription_range(filter, last).0, Location::new(u64::MAX, 0));
    }

    #[test]
    fn a_fetch_ends_at_the_largest_object() {
        let largest = Location::new(7, 3);
        let filter = LocationFilter::Start { start: Location::new(2, 1) };
        assert_eq!(fetch_range(filter, largest), (Location::new(2, 1), largest));
        let filter = LocationFilter::Groups { start: Location::new(2, 1), end_group: GroupId(4) };
        assert_eq!(fetch_range(filter, largest).1, Location::new(4, u64::MAX));
    }
}

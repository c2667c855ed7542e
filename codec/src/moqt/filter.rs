//! Location filters and range filters (draft-22 section 3.3).

use bytes::Bytes;

use super::{id::GroupId, location::Location};

/// Which part of a track is wanted, the same value in every draft (encodings differ).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LocationFilter {
    /// No filter; in an update it removes the one there was.
    #[default]
    None,
    /// From the first object of the group `Largest.Group + 1 - groups_back`, open-ended.
    /// 0 is the next group, 1 the current one. Drafts 18 and 19 know only 0.
    Relative {
        /// Groups before the next one.
        groups_back: u64,
    },
    /// From `start`, open-ended.
    Start {
        /// First location wanted.
        start: Location,
    },
    /// From `start` to the end of group `end_group`.
    Groups {
        /// First location wanted.
        start: Location,
        /// Last group wanted, whole.
        end_group: GroupId,
    },
    /// From `start` to `end`, inclusive. Drafts 20 and later.
    Range {
        /// First location wanted.
        start: Location,
        /// Last location wanted.
        end: Location,
    },
    /// From the object after the largest known one; from {0, 0} if there is none.
    NextObject,
}

/// One inclusive range; the end is `u64::MAX` where the wire leaves it open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// First value in the range.
    pub start: u64,
    /// Last value in the range.
    pub end: u64,
}

/// A range filter's value as it came: parsed by [`RangeFilter::ranges`], because a bad filter
/// rejects its request and not the session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RangeFilter {
    /// The parameter's value without its length: empty, or SetID, (property type,) ranges.
    pub raw: Bytes,
}

/// A range filter's value, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ranges {
    /// Filters of one set must all pass; one set of several must.
    pub set: u8,
    /// The object property that is looked at; only in property filters, and even.
    pub property_type: Option<u64>,
    /// Values that pass.
    pub ranges: Vec<Range>,
}

/// Why a range filter means nothing: its request is rejected with INVALID_FILTER.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidFilter {
    /// Its fields go past its length.
    #[error("filter is shorter than its fields")]
    Truncated,
    /// It has a set but no range.
    #[error("filter has no range")]
    NoRange,
    /// A range's bound is beyond 2^64 - 1.
    #[error("filter range overflows")]
    Overflow,
    /// The property looked at is no integer.
    #[error("filter looks at a property that is no integer")]
    OddPropertyType,
    /// A priority above 255.
    #[error("filter has a priority above 255")]
    PriorityTooLarge,
}

impl RangeFilter {
    /// What the filter says; `None` if it says nothing, which in an update removes it.
    /// `with_property_type` for OBJECT_PROPERTY_FILTER and TRACK_PROPERTY_FILTER.
    ///
    /// # Errors
    /// If it is no filter.
    pub fn ranges(&self, with_property_type: bool) -> Result<Option<Ranges>, InvalidFilter> {
        todo!("{with_property_type}")
    }

    /// What a PRIORITY_FILTER says.
    ///
    /// # Errors
    /// As [`Self::ranges`], and if a priority is above 255.
    pub fn priority_ranges(&self) -> Result<Option<Ranges>, InvalidFilter> {
        todo!()
    }

    /// The filter that says `ranges`, which ascend and do not overlap.
    pub fn from_ranges(ranges: &Ranges) -> Self {
        todo!("{ranges:?}")
    }
}

//! Location filters and range filters (draft-22 section 3.3).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{id::GroupId, location::Location, varint, version::Version};
use crate::{
    cursor::{Cursor, exactly},
    error::{DecodeError, EncodeError, Violation},
};

/// Which part of a track is wanted, the same value in every draft (encodings differ).
///
/// Two drafts lack a form that they can do without: {0, 0} onwards is written as no filter in
/// drafts 20 and 21, no filter as {0, 0} onwards in drafts 18 and 19.
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

/// The numbers of a [`LocationFilter`]: start group, start object, end group less start group, end
/// object; or groups back alone. Drafts 20 and later tell the form by how many there are.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    numbers: [u64; 4],
    count: usize,
}

const NEXT_OBJECT_22: u64 = 5;

const RELATIVE_18: u64 = 1;
const NEXT_OBJECT_18: u64 = 2;
const START_18: u64 = 3;
const GROUPS_18: u64 = 4;

impl Numbers {
    fn new(numbers: &[u64]) -> Self {
        numbers.iter().fold(Self::default(), |list, &number| list.and(number))
    }

    fn and(mut self, number: u64) -> Self {
        if let Some(place) = self.numbers.get_mut(self.count) {
            *place = number;
            self.count += 1;
        }
        self
    }

    fn as_slice(&self) -> &[u64] {
        &self.numbers[..self.count]
    }

    /// The next `count` numbers.
    fn decode(cursor: &mut Cursor, count: u64) -> Result<Self, DecodeError> {
        (0..count).try_fold(Self::default(), |list, _| Ok(list.and(cursor.varint()?)))
    }

    /// All numbers there are, which are four at most.
    fn decode_all(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let mut list = Self::default();
        while !cursor.is_empty() && list.count < list.numbers.len() {
            list = list.and(cursor.varint()?);
        }
        Ok(list)
    }

    fn encode(&self, out: &mut BytesMut) {
        for &number in self.as_slice() {
            varint::encode(number, out);
        }
    }

    /// The form that has so many numbers.
    fn filter(&self) -> Result<LocationFilter, DecodeError> {
        let end_group = |start: u64, delta: u64| {
            start.checked_add(delta).ok_or(Violation::LocationFilterOverflow)
        };
        Ok(match *self.as_slice() {
            [groups_back] => LocationFilter::Relative { groups_back },
            [group, object] => LocationFilter::Start { start: Location::new(group, object) },
            [group, object, delta] => LocationFilter::Groups {
                start: Location::new(group, object),
                end_group: GroupId(end_group(group, delta)?),
            },
            [group, object, delta, end_object] => LocationFilter::Range {
                start: Location::new(group, object),
                end: Location::new(end_group(group, delta)?, end_object),
            },
            _ => LocationFilter::None,
        })
    }
}

impl LocationFilter {
    /// The next filter, as this draft has it: with its length before draft 22, without since.
    ///
    /// # Errors
    /// If the bytes end before it does, it is of an unknown type, or its end group overflows.
    pub fn decode(cursor: &mut Cursor, version: Version) -> Result<Self, DecodeError> {
        let decode_value = match version {
            Version::Draft22 => return Self::decode_22(cursor),
            Version::Draft20 | Version::Draft21 => Self::decode_20,
            Version::Draft18 | Version::Draft19 => Self::decode_18,
        };
        exactly(cursor.length_prefixed()?, Violation::LocationFilterLength, decode_value)
    }

    fn decode_22(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        match cursor.varint()? {
            NEXT_OBJECT_22 => Ok(Self::NextObject),
            count @ 0..=4 => Numbers::decode(cursor, count)?.filter(),
            _ => Err(Violation::LocationFilterType.into()),
        }
    }

    fn decode_20(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let numbers = Numbers::decode_all(cursor)?;
        if numbers.as_slice() == [0, 0] { Ok(Self::NextObject) } else { numbers.filter() }
    }

    fn decode_18(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        match cursor.varint()? {
            RELATIVE_18 => Ok(Self::Relative { groups_back: 0 }),
            NEXT_OBJECT_18 => Ok(Self::NextObject),
            START_18 => Numbers::decode(cursor, 2)?.filter(),
            GROUPS_18 => Numbers::decode(cursor, 3)?.filter(),
            _ => Err(Violation::LocationFilterType.into()),
        }
    }

    /// Appends the filter, as this draft has it.
    ///
    /// # Errors
    /// If the draft has no form for it, or its end group is before its start.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match version {
            Version::Draft22 => {
                let numbers = self.numbers()?;
                let is_next = *self == Self::NextObject;
                varint::encode(if is_next { NEXT_OBJECT_22 } else { numbers.count as u64 }, out);
                numbers.encode(out);
            }
            Version::Draft20 | Version::Draft21 => {
                let numbers = match self {
                    Self::NextObject => Numbers::new(&[0, 0]),
                    Self::Start { start } if *start == Location::default() => Numbers::default(),
                    _ => self.numbers()?,
                };
                encode_prefixed(None, &numbers, out);
            }
            Version::Draft18 | Version::Draft19 => {
                let (filter_type, numbers) = match self {
                    Self::Relative { groups_back: 0 } => (RELATIVE_18, Numbers::default()),
                    Self::NextObject => (NEXT_OBJECT_18, Numbers::default()),
                    Self::None => (START_18, Numbers::new(&[0, 0])),
                    Self::Start { .. } => (START_18, self.numbers()?),
                    Self::Groups { .. } => (GROUPS_18, self.numbers()?),
                    Self::Relative { .. } | Self::Range { .. } => {
                        return Err(EncodeError::Unsupported("this location filter"));
                    }
                };
                encode_prefixed(Some(filter_type), &numbers, out);
            }
        }
        Ok(())
    }

    fn numbers(&self) -> Result<Numbers, EncodeError> {
        let delta = |start: GroupId, end: GroupId| {
            let delta = end.0.checked_sub(start.0);
            delta.ok_or(EncodeError::OutOfRange("location filter's end group"))
        };
        Ok(match *self {
            Self::None | Self::NextObject => Numbers::default(),
            Self::Relative { groups_back } => Numbers::new(&[groups_back]),
            Self::Start { start } => Numbers::new(&[start.group.0, start.object.0]),
            Self::Groups { start, end_group } => {
                let delta = delta(start.group, end_group)?;
                Numbers::new(&[start.group.0, start.object.0, delta])
            }
            Self::Range { start, end } => {
                let delta = delta(start.group, end.group)?;
                Numbers::new(&[start.group.0, start.object.0, delta, end.object.0])
            }
        })
    }
}

/// Appends a filter of drafts 18 to 21, which has its length before it.
fn encode_prefixed(filter_type: Option<u64>, numbers: &Numbers, out: &mut BytesMut) {
    let mut value = BytesMut::new();
    if let Some(filter_type) = filter_type {
        varint::encode(filter_type, &mut value);
    }
    numbers.encode(&mut value);
    varint::encode(value.len() as u64, out);
    out.put_slice(&value);
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
        if self.raw.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(self.raw.clone());
        let set = cursor.u8().map_err(|_| InvalidFilter::Truncated)?;
        let property_type = if with_property_type { Some(number(&mut cursor)?) } else { None };
        if property_type.is_some_and(|property_type| property_type % 2 == 1) {
            return Err(InvalidFilter::OddPropertyType);
        }
        let mut ranges = Vec::new();
        let mut previous_end = 0_u64;
        while !cursor.is_empty() {
            let start = previous_end.checked_add(number(&mut cursor)?);
            let start = start.ok_or(InvalidFilter::Overflow)?;
            let end = if cursor.is_empty() {
                u64::MAX
            } else {
                start.checked_add(number(&mut cursor)?).ok_or(InvalidFilter::Overflow)?
            };
            previous_end = end;
            ranges.push(Range { start, end });
        }
        if ranges.is_empty() {
            return Err(InvalidFilter::NoRange);
        }
        Ok(Some(Ranges { set, property_type, ranges }))
    }

    /// What a PRIORITY_FILTER says.
    ///
    /// # Errors
    /// As [`Self::ranges`], and if a priority is above 255.
    pub fn priority_ranges(&self) -> Result<Option<Ranges>, InvalidFilter> {
        let filter = self.ranges(false)?;
        let is_priority = |bound: u64| bound <= u64::from(u8::MAX);
        let is_sound = |range: &Range| {
            is_priority(range.start) && (is_priority(range.end) || range.end == u64::MAX)
        };
        if filter.iter().flat_map(|filter| &filter.ranges).all(is_sound) {
            Ok(filter)
        } else {
            Err(InvalidFilter::PriorityTooLarge)
        }
    }

    /// The filter that says `ranges`, which ascend: none starts before another's end.
    pub fn from_ranges(ranges: &Ranges) -> Self {
        let mut raw = BytesMut::new();
        raw.put_u8(ranges.set);
        if let Some(property_type) = ranges.property_type {
            varint::encode(property_type, &mut raw);
        }
        let mut previous_end = 0;
        for (index, range) in ranges.ranges.iter().enumerate() {
            varint::encode(range.start.saturating_sub(previous_end), &mut raw);
            let is_open = range.end == u64::MAX && index + 1 == ranges.ranges.len();
            if !is_open {
                varint::encode(range.end.saturating_sub(range.start), &mut raw);
            }
            previous_end = range.end;
        }
        Self { raw: raw.freeze() }
    }
}

impl Ranges {
    /// Whether `value` lies in one of the ranges.
    pub fn contains(&self, value: u64) -> bool {
        self.ranges.iter().any(|range| range.start <= value && value <= range.end)
    }
}

fn number(cursor: &mut Cursor) -> Result<u64, InvalidFilter> {
    cursor.varint().map_err(|_| InvalidFilter::Truncated)
}

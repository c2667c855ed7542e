//! The records of a fetch stream: what their flags and deltas mean.

use std::ops::Range;

use super::RangeKind;
use crate::{
    assembly::{Scan, Shortfall},
    error::Violation,
    moqt::{
        id::SubgroupId, location::Location, parameter::GroupOrder,
        stream::subgroup::parse_properties, version::Version,
    },
};

impl RangeKind {
    pub(super) const fn flags(self) -> u64 {
        match self {
            Self::NonExistent => 0x8c,
            Self::Unknown => 0x10c,
            Self::TimedOut => 0x20c,
        }
    }

    pub(super) fn is_supported(self, version: Version) -> bool {
        self != Self::TimedOut || Version::Draft20 <= version
    }

    fn from_flags(version: Version, flags: u64) -> Option<Self> {
        [Self::NonExistent, Self::Unknown, Self::TimedOut]
            .into_iter()
            .find(|kind| kind.flags() == flags && kind.is_supported(version))
    }
}

/// Bits of a record's serialization flags.
pub(super) mod flag {
    pub(crate) const SUBGROUP: u64 = 0x03;
    pub(crate) const SUBGROUP_PRIOR: u64 = 0x01;
    pub(crate) const SUBGROUP_NEXT: u64 = 0x02;
    pub(crate) const SUBGROUP_EXPLICIT: u64 = 0x03;
    pub(crate) const OBJECT: u64 = 0x04;
    pub(crate) const GROUP: u64 = 0x08;
    pub(crate) const PRIORITY: u64 = 0x10;
    pub(crate) const PROPERTIES: u64 = 0x20;
    pub(crate) const DATAGRAM: u64 = 0x40;
    pub(crate) const MAX: u64 = 0x7f;
}

/// What a record may refer to, and what it is read by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) version: Version,
    pub(super) order: GroupOrder,
    /// Of the record before, range or object.
    pub(super) location: Option<Location>,
    /// Of the last object that had one.
    pub(super) subgroup: Option<SubgroupId>,
    /// Of the last object.
    pub(super) priority: Option<u8>,
}

impl Context {
    pub(super) const fn new(version: Version, order: GroupOrder) -> Self {
        Self { version, order, location: None, subgroup: None, priority: None }
    }

    /// Whether `location` comes after the record before.
    pub(super) fn precedes(&self, location: Location) -> bool {
        let Some(prior) = self.location else { return true };
        if prior.group == location.group {
            return prior.object < location.object;
        }
        match self.order {
            GroupOrder::Ascending => prior.group < location.group,
            GroupOrder::Descending => location.group < prior.group,
        }
    }
}

/// What a record says, and where an object's properties lie in it.
pub(super) enum Record {
    Range { kind: RangeKind, end: Location },
    Object { fields: ObjectFields },
}

pub(super) struct ObjectFields {
    pub(super) location: Location,
    pub(super) subgroup: Option<SubgroupId>,
    pub(super) priority: u8,
    pub(super) properties: Range<usize>,
    pub(super) payload_length: u64,
}

impl Record {
    pub(super) fn parse(scan: &mut Scan<'_>, context: &Context) -> Result<Self, Shortfall> {
        let flags = scan.varint()?;
        let record = if let Some(kind) = RangeKind::from_flags(context.version, flags) {
            // Stacks differ here, since the draft is not clear. Most write absolute numbers and
            // no payload length, as is read and written here.
            Self::Range { kind, end: Location::new(scan.varint()?, scan.varint()?) }
        } else if flags <= flag::MAX {
            Self::Object { fields: ObjectFields::parse(flags, scan, context)? }
        } else {
            return Err(Violation::FetchFlags.into());
        };
        if context.precedes(record.location()) {
            Ok(record)
        } else {
            Err(Violation::FetchNotAscending.into())
        }
    }

    pub(super) const fn location(&self) -> Location {
        match self {
            Self::Range { end, .. } => *end,
            Self::Object { fields } => fields.location,
        }
    }
}

impl ObjectFields {
    fn parse(flags: u64, scan: &mut Scan<'_>, context: &Context) -> Result<Self, Shortfall> {
        let group_delta = if flags & flag::GROUP == 0 { None } else { Some(scan.varint()?) };
        let subgroup = parse_subgroup(flags, scan, context.subgroup)?;
        let object_delta = if flags & flag::OBJECT == 0 { None } else { Some(scan.varint()?) };
        let location = resolve(context, group_delta, object_delta)?;
        let priority = if flags & flag::PRIORITY == 0 {
            context.priority.ok_or(Violation::FetchPriorMissing)?
        } else {
            scan.u8()?
        };
        let has_properties = flags & flag::PROPERTIES != 0;
        let properties = if has_properties { parse_properties(scan)? } else { 0..0 };
        let payload_length = scan.varint()?;
        Ok(Self { location, subgroup, priority, properties, payload_length })
    }
}

fn parse_subgroup(
    flags: u64,
    scan: &mut Scan<'_>,
    prior: Option<SubgroupId>,
) -> Result<Option<SubgroupId>, Shortfall> {
    if flags & flag::DATAGRAM != 0 {
        return Ok(None);
    }
    match flags & flag::SUBGROUP {
        flag::SUBGROUP_EXPLICIT => Ok(Some(SubgroupId(scan.varint()?))),
        flag::SUBGROUP_PRIOR => Ok(Some(prior.ok_or(Violation::FetchPriorMissing)?)),
        flag::SUBGROUP_NEXT => {
            let prior = prior.ok_or(Violation::FetchPriorMissing)?;
            let next = prior.0.checked_add(1).ok_or(Violation::FetchOverflow)?;
            Ok(Some(SubgroupId(next)))
        }
        _ => Ok(Some(SubgroupId(0))),
    }
}

/// The location that the deltas of a record say.
fn resolve(
    context: &Context,
    group_delta: Option<u64>,
    object_delta: Option<u64>,
) -> Result<Location, Violation> {
    let Some(prior) = context.location else {
        let (Some(group), Some(object)) = (group_delta, object_delta) else {
            return Err(Violation::FetchFirstLocation);
        };
        return Ok(Location::new(group, object));
    };
    let group = match group_delta {
        None => Some(prior.group.0),
        Some(delta) => delta.checked_add(1).and_then(|steps| match context.order {
            GroupOrder::Ascending => prior.group.0.checked_add(steps),
            GroupOrder::Descending => prior.group.0.checked_sub(steps),
        }),
    };
    let object = match object_delta {
        Some(object) if group_delta.is_some() => Some(object),
        delta => prior.object.0.checked_add(delta.unwrap_or(1)),
    };
    match (group, object) {
        (Some(group), Some(object)) => Ok(Location::new(group, object)),
        _ => Err(Violation::FetchOverflow),
    }
}

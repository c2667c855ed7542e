//! What each draft allows where: one row for each parameter.

use std::ops::RangeInclusive;

use MessageType::{
    Call, Fetch, Namespace, Publish, PublishNamespace, PublishStateNotify, RequestOk,
    RequestUpdate, Subscribe, SubscribeNamespace, SubscribeOk, SubscribeTracks, TrackStatus,
};

use super::{IDEMPOTENCY_KEY_LENGTH_MAX, Parameter, Parameters};
use crate::{
    aip::{hops::Hops, trace::TraceContext},
    cursor::Cursor,
    error::{DecodeError, Violation},
    moqt::{
        filter::{LocationFilter, RangeFilter},
        location::Location,
        message::MessageType,
        name::TrackNamespace,
        parameter::GroupOrder,
        token::Token,
        version::Version,
    },
};

/// What a block of parameters belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// A message.
    Message(MessageType),
    /// FILL_PARAMETERS.
    Fill,
}

const ALL: RangeInclusive<Version> = Version::Draft18..=Version::Draft22;
const ONLY_18: RangeInclusive<Version> = Version::Draft18..=Version::Draft18;
const TO_19: RangeInclusive<Version> = Version::Draft18..=Version::Draft19;
const FROM_19: RangeInclusive<Version> = Version::Draft19..=Version::Draft22;
const FROM_20: RangeInclusive<Version> = Version::Draft20..=Version::Draft22;
/// Whatever SUBSCRIBE may have, SUBSCRIBE_TRACKS may have too; draft 22 has a list again.
const TRACKS_20_21: RangeInclusive<Version> = Version::Draft20..=Version::Draft21;

/// A parameter.
pub(super) struct Row {
    pub(super) wire_type: u64,
    pub(super) name: &'static str,
    since: Version,
    pub(super) repeats: bool,
    pub(super) decode: fn(&mut Cursor, Version) -> Result<Parameter, DecodeError>,
    messages: &'static [(MessageType, RangeInclusive<Version>)],
    in_fill: bool,
}

impl Row {
    const fn new(
        wire_type: u64,
        name: &'static str,
        decode: fn(&mut Cursor, Version) -> Result<Parameter, DecodeError>,
        messages: &'static [(MessageType, RangeInclusive<Version>)],
    ) -> Self {
        Self {
            wire_type,
            name,
            since: Version::Draft18,
            repeats: false,
            decode,
            messages,
            in_fill: false,
        }
    }

    const fn since(self, since: Version) -> Self {
        Self { since, ..self }
    }

    const fn repeats(self) -> Self {
        Self { repeats: true, ..self }
    }

    const fn in_fill(self) -> Self {
        Self { in_fill: true, ..self }
    }

    /// Whether the draft allows it there.
    pub(super) fn is_allowed(&self, version: Version, place: Place) -> bool {
        match place {
            Place::Fill => self.in_fill,
            Place::Message(message) => self
                .messages
                .iter()
                .any(|(allowed, drafts)| *allowed == message && drafts.contains(&version)),
        }
    }
}

/// The row of a parameter that the draft knows.
pub(super) fn find(version: Version, wire_type: u64) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.wire_type == wire_type && row.since <= version)
}

/// Ascending by wire type. For REQUEST_OK and REQUEST_UPDATE, whatever one for some request may
/// have: which request it is, the session knows.
static TABLE: &[Row] = &[
    Row::new(
        0x02,
        "OBJECT_DELIVERY_TIMEOUT",
        |cursor, _| cursor.varint().map(Parameter::ObjectDeliveryTimeout),
        DELIVERY_TIMEOUT,
    ),
    Row::new(
        0x03,
        "AUTHORIZATION_TOKEN",
        |cursor, _| Token::decode(cursor.length_prefixed()?).map(Parameter::AuthorizationToken),
        &[
            (Subscribe, ALL),
            (Publish, ALL),
            (Fetch, ALL),
            (TrackStatus, ALL),
            (PublishNamespace, ALL),
            (SubscribeNamespace, ALL),
            (SubscribeTracks, ALL),
            (RequestUpdate, ALL),
            (Call, ALL),
        ],
    )
    .repeats(),
    Row::new(
        0x04,
        "RENDEZVOUS_TIMEOUT",
        |cursor, _| cursor.varint().map(Parameter::RendezvousTimeout),
        &[(Subscribe, ALL), (SubscribeTracks, TRACKS_20_21)],
    ),
    Row::new(
        0x06,
        "SUBGROUP_DELIVERY_TIMEOUT",
        |cursor, _| cursor.varint().map(Parameter::SubgroupDeliveryTimeout),
        DELIVERY_TIMEOUT,
    ),
    Row::new(
        0x08,
        "EXPIRES",
        |cursor, _| cursor.varint().map(Parameter::Expires),
        &[(SubscribeOk, ALL), (Publish, ALL), (RequestOk, ALL)],
    ),
    Row::new(
        0x09,
        "LARGEST_OBJECT",
        |cursor, _| Location::decode(cursor).map(Parameter::LargestObject),
        &[(SubscribeOk, ALL), (Publish, ALL), (RequestOk, ALL), (PublishStateNotify, FROM_20)],
    ),
    Row::new(
        0x0a,
        "FILL_TIMEOUT",
        |cursor, _| cursor.varint().map(Parameter::FillTimeout),
        &[(Fetch, ALL)],
    )
    .in_fill(),
    Row::new(
        0x10,
        "FORWARD",
        |cursor, _| boolean(cursor, Violation::Forward).map(Parameter::Forward),
        &[
            (Subscribe, ALL),
            (Publish, ALL),
            (SubscribeTracks, ALL),
            (RequestUpdate, ALL),
            (RequestOk, TO_19),
            (PublishStateNotify, FROM_20),
        ],
    ),
    Row::new(
        0x20,
        "SUBSCRIBER_PRIORITY",
        |cursor, _| cursor.u8().map(Parameter::SubscriberPriority),
        &[
            (Subscribe, ALL),
            (Fetch, ALL),
            (RequestUpdate, ALL),
            (Call, ALL),
            (RequestOk, TO_19),
            (Publish, FROM_20),
            (SubscribeTracks, TRACKS_20_21),
        ],
    )
    .in_fill(),
    Row::new(
        0x21,
        "LOCATION_FILTER",
        |cursor, version| LocationFilter::decode(cursor, version).map(Parameter::LocationFilter),
        &[
            (Subscribe, ALL),
            (RequestUpdate, ALL),
            (RequestOk, TO_19),
            (Publish, FROM_20),
            (Fetch, FROM_20),
            (PublishStateNotify, FROM_20),
            (SubscribeTracks, FROM_20),
        ],
    )
    .in_fill(),
    Row::new(
        0x22,
        "GROUP_ORDER",
        |cursor, _| match cursor.u8()? {
            1 => Ok(Parameter::GroupOrder(GroupOrder::Ascending)),
            2 => Ok(Parameter::GroupOrder(GroupOrder::Descending)),
            _ => Err(Violation::GroupOrder.into()),
        },
        &[
            (Subscribe, ALL),
            (Fetch, ALL),
            (RequestOk, ONLY_18),
            (SubscribeTracks, FROM_19),
            (Publish, FROM_20),
        ],
    )
    .in_fill(),
    Row::new(
        0x23,
        "FILL_PARAMETERS",
        |cursor, version| {
            let block = cursor.length_prefixed()?;
            Parameters::decode_fill(&block, version).map(Parameter::FillParameters)
        },
        &[(Subscribe, FROM_20), (RequestUpdate, FROM_20), (SubscribeTracks, FROM_20)],
    )
    .since(Version::Draft20),
    Row::new(
        0x25,
        "SUBGROUP_FILTER",
        |cursor, _| range_filter(cursor).map(Parameter::SubgroupFilter),
        OBJECT_FILTER,
    )
    .since(Version::Draft19)
    .repeats()
    .in_fill(),
    Row::new(
        0x26,
        "OBJECTID_FILTER",
        |cursor, _| range_filter(cursor).map(Parameter::ObjectIdFilter),
        OBJECT_FILTER,
    )
    .since(Version::Draft19)
    .repeats()
    .in_fill(),
    Row::new(
        0x27,
        "PRIORITY_FILTER",
        |cursor, _| range_filter(cursor).map(Parameter::PriorityFilter),
        OBJECT_FILTER,
    )
    .since(Version::Draft19)
    .repeats()
    .in_fill(),
    Row::new(
        0x28,
        "OBJECT_PROPERTY_FILTER",
        |cursor, _| range_filter(cursor).map(Parameter::ObjectPropertyFilter),
        OBJECT_FILTER,
    )
    .since(Version::Draft19)
    .repeats()
    .in_fill(),
    Row::new(
        0x29,
        "TRACK_PROPERTY_FILTER",
        |cursor, _| range_filter(cursor).map(Parameter::TrackPropertyFilter),
        &[(SubscribeTracks, FROM_19), (RequestUpdate, FROM_19)],
    )
    .since(Version::Draft19)
    .repeats(),
    Row::new(
        0x32,
        "NEW_GROUP_REQUEST",
        |cursor, _| cursor.varint().map(Parameter::NewGroupRequest),
        &[
            (Subscribe, ALL),
            (RequestUpdate, ALL),
            (RequestOk, TO_19),
            (SubscribeTracks, TRACKS_20_21),
        ],
    ),
    Row::new(
        0x34,
        "TRACK_NAMESPACE_PREFIX",
        |cursor, _| TrackNamespace::decode(cursor).map(Parameter::TrackNamespacePrefix),
        &[(RequestUpdate, ALL)],
    ),
    Row::new(
        0x35,
        "INCLUDE_PROPERTIES",
        |cursor, _| boolean(cursor, Violation::IncludeProperties).map(Parameter::IncludeProperties),
        &[
            (Subscribe, FROM_20),
            (TrackStatus, FROM_20),
            (Fetch, FROM_20),
            (SubscribeTracks, FROM_20),
        ],
    )
    .since(Version::Draft20),
    Row::new(
        0x4a2,
        "DEADLINE",
        |cursor, _| cursor.varint().map(Parameter::Deadline),
        &[(Call, ALL)],
    ),
    Row::new(
        0x4a4,
        "IDEMPOTENCY_KEY",
        |cursor, _| {
            let length = cursor.varint()?;
            if (IDEMPOTENCY_KEY_LENGTH_MAX as u64) < length {
                return Err(Violation::IdempotencyKeyTooLong.into());
            }
            cursor.bytes(length).map(Parameter::IdempotencyKey)
        },
        &[(Call, ALL)],
    ),
    Row::new(
        0x4a6,
        "CONTENT_TYPE",
        |cursor, _| cursor.length_prefixed().map(Parameter::ContentType),
        &[(Call, ALL)],
    ),
    Row::new(
        0x4a8,
        "HOPS",
        |cursor, _| Hops::decode(&cursor.length_prefixed()?).map(Parameter::Hops),
        &[
            (PublishNamespace, ALL),
            (Namespace, ALL),
            (Publish, ALL),
            (RequestUpdate, ALL),
            (Subscribe, ALL),
            (SubscribeTracks, ALL),
            (Call, ALL),
        ],
    ),
    Row::new(
        0x4aa,
        "COST",
        |cursor, _| cursor.varint().map(Parameter::Cost),
        &[(PublishNamespace, ALL), (Namespace, ALL), (Publish, ALL), (RequestUpdate, ALL)],
    ),
    Row::new(
        0x4ac,
        "RESUME_AFTER",
        |cursor, _| cursor.varint().map(Parameter::ResumeAfter),
        &[(Call, ALL)],
    ),
    Row::new(
        0x4ae,
        "TRACE_CONTEXT",
        |cursor, _| {
            let bytes = cursor.length_prefixed()?;
            let context = bytes.as_ref().try_into().ok().and_then(TraceContext::from_bytes);
            context.map(Parameter::TraceContext).ok_or_else(|| Violation::TraceContext.into())
        },
        &[(Call, ALL)],
    ),
];

const DELIVERY_TIMEOUT: &[(MessageType, RangeInclusive<Version>)] = &[
    (Subscribe, ALL),
    (RequestUpdate, ALL),
    (RequestOk, TO_19),
    (Publish, FROM_20),
    (SubscribeTracks, TRACKS_20_21),
];

const OBJECT_FILTER: &[(MessageType, RangeInclusive<Version>)] =
    &[(Subscribe, FROM_19), (Fetch, FROM_19), (SubscribeTracks, FROM_19), (RequestUpdate, FROM_19)];

fn boolean(cursor: &mut Cursor, violation: Violation) -> Result<bool, DecodeError> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(violation.into()),
    }
}

fn range_filter(cursor: &mut Cursor) -> Result<RangeFilter, DecodeError> {
    cursor.length_prefixed().map(|raw| RangeFilter { raw })
}

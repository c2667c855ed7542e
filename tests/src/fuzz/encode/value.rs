//! What messages and streams are made of.

use aip_codec::{
    aip::{
        hops::{Hops, RelayId},
        trace::TraceContext,
    },
    moqt::{
        datagram::{Content, ObjectDatagram},
        filter::{LocationFilter, Range, RangeFilter, Ranges},
        id::{GroupId, ObjectId, TrackAlias},
        key_value::{KeyValue, Value},
        location::Location,
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
        stream::{fetch, subgroup},
        token::Token,
    },
};
use arbitrary::{Result, Unstructured};
use bytes::Bytes;

pub(super) type Input<'a, 'b> = &'a mut Unstructured<'b>;

/// A value or none.
pub(super) fn optional<'b, T>(
    input: Input<'_, 'b>,
    value: fn(Input<'_, 'b>) -> Result<T>,
) -> Result<Option<T>> {
    if input.arbitrary()? { value(input).map(Some) } else { Ok(None) }
}

/// Any number, those where the encoding changes more often.
pub(super) fn number(input: Input<'_, '_>) -> Result<u64> {
    let edge = 1u64.checked_shl(7 * input.int_in_range(1..=9)?).unwrap_or(u64::MAX);
    Ok(match input.int_in_range(0..=5)? {
        0 => u64::MAX,
        1 => edge,
        2 => edge - 1,
        3 => input.arbitrary()?,
        _ => input.arbitrary::<u8>()?.into(),
    })
}

/// A few bytes, or as many as are too many for most places.
pub(super) fn bytes(input: Input<'_, '_>) -> Result<Bytes> {
    if input.ratio(1, 32)? {
        let length =
            *input.choose(&[64, 65, 1_024, 4_096, 4_097, 8_193, 65_535, 65_536, 70_000])?;
        return Ok(vec![input.arbitrary()?; length].into());
    }
    let length = input.int_in_range(0..=32usize)?.min(input.len());
    Ok(input.bytes(length)?.to_vec().into())
}

pub(super) fn location(input: Input<'_, '_>) -> Result<Location> {
    Ok(Location::new(number(input)?, number(input)?))
}

pub(super) fn group_order(input: Input<'_, '_>) -> Result<GroupOrder> {
    Ok(if input.arbitrary()? { GroupOrder::Ascending } else { GroupOrder::Descending })
}

pub(super) fn status(input: Input<'_, '_>) -> Result<subgroup::ObjectStatus> {
    use subgroup::ObjectStatus::{EndOfGroup, EndOfTrack, Normal};
    input.choose(&[Normal, Normal, EndOfGroup, EndOfTrack]).copied()
}

pub(super) fn range_kind(input: Input<'_, '_>) -> Result<fetch::RangeKind> {
    use fetch::RangeKind::{NonExistent, TimedOut, Unknown};
    input.choose(&[NonExistent, Unknown, TimedOut]).copied()
}

/// A tuple; the empty one where the fields are none.
pub(super) fn namespace(input: Input<'_, '_>) -> Result<TrackNamespace> {
    let count = if input.ratio(1, 32)? { 33 } else { input.int_in_range(0..=4)? };
    let fields = (0..count).map(|_| bytes(input)).collect::<Result<Vec<_>>>()?;
    Ok(TrackNamespace::new(fields).unwrap_or_default())
}

pub(super) fn track(input: Input<'_, '_>) -> Result<FullTrackName> {
    let namespace = namespace(input)?;
    let name = bytes(input)?;
    let long = FullTrackName::new(namespace.clone(), name);
    let name = long.or_else(|_| FullTrackName::new(namespace, Bytes::new()));
    name.map_err(|_| arbitrary::Error::IncorrectFormat)
}

pub(super) fn pair(input: Input<'_, '_>) -> Result<KeyValue> {
    let key_type =
        if input.arbitrary()? { number(input)? } else { input.int_in_range(0..=0x40)? };
    // The type's parity tells which; one in eight is wrong.
    let is_integer = key_type.is_multiple_of(2) != input.ratio(1, 8)?;
    let value =
        if is_integer { Value::Integer(number(input)?) } else { Value::Bytes(bytes(input)?) };
    Ok(KeyValue { key_type, value })
}

pub(super) fn properties(input: Input<'_, '_>) -> Result<Properties> {
    let mut builder = Properties::builder();
    for _ in 0..input.int_in_range(0..=3)? {
        builder = builder.pair(pair(input)?);
    }
    Ok(builder.build().unwrap_or_default())
}

pub(super) fn datagram(input: Input<'_, '_>) -> Result<ObjectDatagram> {
    Ok(ObjectDatagram {
        track_alias: TrackAlias(number(input)?),
        group: GroupId(number(input)?),
        object: ObjectId(number(input)?),
        priority: input.arbitrary()?,
        end_of_group: input.arbitrary()?,
        properties: properties(input)?,
        content: if input.arbitrary()? {
            Content::Status(status(input)?)
        } else {
            Content::Payload(bytes(input)?)
        },
    })
}

pub(super) fn token(input: Input<'_, '_>) -> Result<Token> {
    let alias = number(input)?;
    Ok(match input.int_in_range(0..=3)? {
        0 => Token::Delete { alias },
        1 => Token::Register { alias, token_type: number(input)?, value: bytes(input)? },
        2 => Token::UseAlias { alias },
        _ => Token::UseValue { token_type: number(input)?, value: bytes(input)? },
    })
}

pub(super) fn location_filter(input: Input<'_, '_>) -> Result<LocationFilter> {
    let start = location(input)?;
    Ok(match input.int_in_range(0..=5)? {
        0 => LocationFilter::None,
        1 => LocationFilter::Relative { groups_back: number(input)? },
        2 => LocationFilter::Start { start },
        3 => LocationFilter::Groups { start, end_group: GroupId(number(input)?) },
        4 => LocationFilter::Range { start, end: location(input)? },
        _ => LocationFilter::NextObject,
    })
}

pub(super) fn range_filter(input: Input<'_, '_>) -> Result<RangeFilter> {
    if input.arbitrary()? {
        return Ok(RangeFilter { raw: bytes(input)? });
    }
    let mut bounds = [0; 4];
    for bound in &mut bounds {
        *bound = number(input)?;
    }
    bounds.sort_unstable();
    let ranges = Ranges {
        set: input.arbitrary()?,
        property_type: optional(input, number)?,
        ranges: bounds.chunks(2).map(|ends| Range { start: ends[0], end: ends[1] }).collect(),
    };
    for range in &ranges.ranges {
        assert!(ranges.contains(range.start) && ranges.contains(range.end));
    }
    Ok(RangeFilter::from_ranges(&ranges))
}

pub(super) fn trace(input: Input<'_, '_>) -> Result<TraceContext> {
    let mut context: [u8; 25] = input.arbitrary()?;
    (context[0], context[16]) = (context[0] | 1, context[16] | 1);
    TraceContext::from_bytes(&context).ok_or(arbitrary::Error::IncorrectFormat)
}

pub(super) fn hops(input: Input<'_, '_>) -> Result<Hops> {
    let list = (0..input.int_in_range(0..=17)?).map(|_| number(input).map(RelayId));
    Ok(Hops::try_from(list.collect::<Result<Vec<_>>>()?).unwrap_or_default())
}

pub(super) fn parameters(input: Input<'_, '_>, depth: usize) -> Result<Parameters> {
    let mut parameters = Parameters::new();
    for _ in 0..input.int_in_range(0..=4)? {
        parameters.push(parameter(input, depth)?);
    }
    Ok(parameters)
}

pub(super) fn parameter(input: Input<'_, '_>, depth: usize) -> Result<Parameter> {
    Ok(match input.int_in_range(0..=26)? {
        0 => Parameter::ObjectDeliveryTimeout(number(input)?),
        1 => Parameter::AuthorizationToken(token(input)?),
        2 => Parameter::RendezvousTimeout(number(input)?),
        3 => Parameter::SubgroupDeliveryTimeout(number(input)?),
        4 => Parameter::Expires(number(input)?),
        5 => Parameter::LargestObject(location(input)?),
        6 => Parameter::FillTimeout(number(input)?),
        7 => Parameter::Forward(input.arbitrary()?),
        8 => Parameter::SubscriberPriority(input.arbitrary()?),
        9 => Parameter::LocationFilter(location_filter(input)?),
        10 => Parameter::GroupOrder(group_order(input)?),
        11 if depth == 0 => Parameter::FillParameters(parameters(input, depth + 1)?),
        12 => Parameter::SubgroupFilter(range_filter(input)?),
        13 => Parameter::ObjectIdFilter(range_filter(input)?),
        14 => Parameter::PriorityFilter(range_filter(input)?),
        15 => Parameter::ObjectPropertyFilter(range_filter(input)?),
        16 => Parameter::TrackPropertyFilter(range_filter(input)?),
        17 => Parameter::NewGroupRequest(number(input)?),
        18 => Parameter::TrackNamespacePrefix(namespace(input)?),
        19 => Parameter::IncludeProperties(input.arbitrary()?),
        20 => Parameter::Deadline(number(input)?),
        21 => Parameter::IdempotencyKey(bytes(input)?),
        22 => Parameter::ContentType(bytes(input)?),
        23 => Parameter::Hops(hops(input)?),
        24 => Parameter::Cost(number(input)?),
        25 => Parameter::ResumeAfter(number(input)?),
        _ => Parameter::TraceContext(trace(input)?),
    })
}

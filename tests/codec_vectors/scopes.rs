//! Which parameter has its place in which message of which draft, written out a second time as the
//! drafts list it: by message.

use aip_codec::{
    DecodeError, Version, Violation,
    aip::{
        hops::{Hops, RelayId},
        trace::TraceContext,
    },
    cursor::Cursor,
    moqt::{
        filter::{LocationFilter, RangeFilter},
        location::Location,
        message::MessageType,
        name::TrackNamespace,
        parameter::{GroupOrder, Parameter, Parameters},
        token::Token,
        varint,
    },
};
use bytes::{Bytes, BytesMut};

use super::strategy::is_allowed;

/// Message, first and last draft, wire types.
const LISTS: &[(MessageType, u8, u8, &[u64])] = &[
    (
        MessageType::Subscribe,
        18,
        18,
        &[0x02, 0x03, 0x04, 0x06, 0x10, 0x20, 0x21, 0x22, 0x32, 0x4a8],
    ),
    (
        MessageType::Subscribe,
        19,
        19,
        &[0x02, 0x03, 0x04, 0x06, 0x10, 0x20, 0x21, 0x22, 0x25, 0x26, 0x27, 0x28, 0x32, 0x4a8],
    ),
    (
        MessageType::Subscribe,
        20,
        22,
        &[
            0x02, 0x03, 0x04, 0x06, 0x10, 0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x27, 0x28, 0x32,
            0x35, 0x4a8,
        ],
    ),
    (MessageType::SubscribeOk, 18, 22, &[0x08, 0x09]),
    (MessageType::Publish, 18, 19, &[0x03, 0x08, 0x09, 0x10, 0x4a8, 0x4aa]),
    (
        MessageType::Publish,
        20,
        22,
        &[0x02, 0x03, 0x06, 0x08, 0x09, 0x10, 0x20, 0x21, 0x22, 0x4a8, 0x4aa],
    ),
    (MessageType::Fetch, 18, 18, &[0x03, 0x0a, 0x20, 0x22]),
    (MessageType::Fetch, 19, 19, &[0x03, 0x0a, 0x20, 0x22, 0x25, 0x26, 0x27, 0x28]),
    (MessageType::Fetch, 20, 22, &[0x03, 0x0a, 0x20, 0x21, 0x22, 0x25, 0x26, 0x27, 0x28, 0x35]),
    (MessageType::FetchOk, 18, 22, &[]),
    (MessageType::TrackStatus, 18, 19, &[0x03]),
    (MessageType::TrackStatus, 20, 22, &[0x03, 0x35]),
    (MessageType::PublishNamespace, 18, 22, &[0x03, 0x4a8, 0x4aa]),
    (MessageType::SubscribeNamespace, 18, 22, &[0x03]),
    (MessageType::SubscribeTracks, 18, 18, &[0x03, 0x10, 0x4a8]),
    (
        MessageType::SubscribeTracks,
        19,
        19,
        &[0x03, 0x10, 0x22, 0x25, 0x26, 0x27, 0x28, 0x29, 0x4a8],
    ),
    (
        MessageType::SubscribeTracks,
        20,
        21,
        &[
            0x02, 0x03, 0x04, 0x06, 0x10, 0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x27, 0x28, 0x29,
            0x32, 0x35, 0x4a8,
        ],
    ),
    (
        MessageType::SubscribeTracks,
        22,
        22,
        &[0x03, 0x10, 0x21, 0x22, 0x23, 0x25, 0x26, 0x27, 0x28, 0x29, 0x35, 0x4a8],
    ),
    (MessageType::PublishStateNotify, 20, 22, &[0x09, 0x10, 0x21]),
    (MessageType::RequestOk, 18, 18, &[0x02, 0x06, 0x08, 0x09, 0x10, 0x20, 0x21, 0x22, 0x32]),
    (MessageType::RequestOk, 19, 19, &[0x02, 0x06, 0x08, 0x09, 0x10, 0x20, 0x21, 0x32]),
    (MessageType::RequestOk, 20, 22, &[0x08, 0x09]),
    (
        MessageType::RequestUpdate,
        18,
        18,
        &[0x02, 0x03, 0x06, 0x10, 0x20, 0x21, 0x32, 0x34, 0x4a8, 0x4aa],
    ),
    (
        MessageType::RequestUpdate,
        19,
        19,
        &[
            0x02, 0x03, 0x06, 0x10, 0x20, 0x21, 0x25, 0x26, 0x27, 0x28, 0x29, 0x32, 0x34, 0x4a8,
            0x4aa,
        ],
    ),
    (
        MessageType::RequestUpdate,
        20,
        22,
        &[
            0x02, 0x03, 0x06, 0x10, 0x20, 0x21, 0x23, 0x25, 0x26, 0x27, 0x28, 0x29, 0x32, 0x34,
            0x4a8, 0x4aa,
        ],
    ),
    (MessageType::Namespace, 18, 22, &[0x4a8, 0x4aa]),
    (MessageType::Call, 18, 22, &[0x03, 0x20, 0x4a2, 0x4a4, 0x4a6, 0x4a8, 0x4ac, 0x4ae]),
];

/// Inside FILL_PARAMETERS.
const FILL: &[u64] = &[0x0a, 0x20, 0x21, 0x22, 0x25, 0x26, 0x27, 0x28];

/// One of each.
fn samples() -> [Parameter; 27] {
    let filter = RangeFilter { raw: Bytes::from_static(&[0, 1, 1]) };
    [
        Parameter::ObjectDeliveryTimeout(1),
        Parameter::AuthorizationToken(Token::UseAlias { alias: 1 }),
        Parameter::RendezvousTimeout(1),
        Parameter::SubgroupDeliveryTimeout(1),
        Parameter::Expires(1),
        Parameter::LargestObject(Location::new(1, 1)),
        Parameter::FillTimeout(1),
        Parameter::Forward(true),
        Parameter::SubscriberPriority(1),
        Parameter::LocationFilter(LocationFilter::NextObject),
        Parameter::GroupOrder(GroupOrder::Descending),
        Parameter::FillParameters(Parameters::new()),
        Parameter::SubgroupFilter(filter.clone()),
        Parameter::ObjectIdFilter(filter.clone()),
        Parameter::PriorityFilter(filter.clone()),
        Parameter::ObjectPropertyFilter(filter.clone()),
        Parameter::TrackPropertyFilter(filter),
        Parameter::NewGroupRequest(1),
        Parameter::TrackNamespacePrefix(TrackNamespace::default()),
        Parameter::IncludeProperties(true),
        Parameter::Deadline(1),
        Parameter::IdempotencyKey(Bytes::from_static(b"key")),
        Parameter::ContentType(Bytes::from_static(b"json")),
        Parameter::Hops(Hops::new().then(RelayId(1)).unwrap()),
        Parameter::Cost(1),
        Parameter::ResumeAfter(1),
        Parameter::TraceContext(TraceContext { trace: [1; 16], span: [2; 8], sampled: true }),
    ]
}

fn expected(version: Version, message: MessageType) -> &'static [u64] {
    let is_it = |(listed, first, last, _): &&(MessageType, u8, u8, &[u64])| {
        *listed == message && (*first..=*last).contains(&version.number())
    };
    LISTS.iter().find(is_it).map_or(&[], |(.., types)| types)
}

#[test]
fn each_message_has_the_parameters_that_its_draft_lists() {
    for version in Version::PREFERENCE {
        for &message in MessageType::ALL {
            let encoded: Vec<_> = samples()
                .iter()
                .filter(|parameter| is_allowed(version, message, parameter))
                .map(Parameter::wire_type)
                .collect();
            assert_eq!(encoded, expected(version, message), "{version:?} {message:?}");
            for parameter in samples() {
                let is_listed = expected(version, message).contains(&parameter.wire_type());
                let decoded = decode_alone(version, message, &parameter);
                match decoded {
                    Ok(parameters) => {
                        assert!(is_listed, "{version:?} {message:?} {parameter:?}");
                        assert_eq!(parameters, Parameters::new().with(parameter));
                    }
                    Err(error) => {
                        let is_of_scope = error == Violation::ParameterOutOfScope.into()
                            || error == Violation::ParameterUnknown.into();
                        assert!(is_of_scope && !is_listed, "{version:?} {message:?} {error}");
                    }
                }
            }
        }
    }
}

/// Decodes a block of `parameter` alone.
fn decode_alone(
    version: Version,
    message: MessageType,
    parameter: &Parameter,
) -> Result<Parameters, DecodeError> {
    let alone = encode_alone(version, parameter);
    Parameters::decode(&mut Cursor::new(alone), version, message)
}

/// A block of `parameter` alone, as it is where it is allowed; without value if it is nowhere.
fn encode_alone(version: Version, parameter: &Parameter) -> Bytes {
    let mut alone = BytesMut::new();
    let holder = MessageType::ALL.iter().find(|holder| is_allowed(version, **holder, parameter));
    if let Some(holder) = holder {
        Parameters::new().with(parameter.clone()).encode(version, *holder, &mut alone).unwrap();
    } else {
        varint::encode(1, &mut alone);
        varint::encode(parameter.wire_type(), &mut alone);
    }
    alone.freeze()
}

#[test]
fn a_fill_has_the_parameters_that_its_draft_lists() {
    for version in [Version::Draft20, Version::Draft21, Version::Draft22] {
        for parameter in samples() {
            let wire_type = parameter.wire_type();
            let fill = Parameter::FillParameters(Parameters::new().with(parameter));
            let is_in_fill = is_allowed(version, MessageType::Subscribe, &fill);
            assert_eq!(is_in_fill, FILL.contains(&wire_type), "{version:?} {wire_type:#x}");
        }
    }
    for version in [Version::Draft18, Version::Draft19] {
        let fill = Parameter::FillParameters(Parameters::new());
        assert!(!is_allowed(version, MessageType::Subscribe, &fill));
    }
}

#[test]
fn what_must_not_repeat_is_replaced_and_the_rest_kept_in_order() {
    for parameter in samples() {
        let twice = Parameters::new().with(parameter.clone()).with(parameter.clone());
        let count = if parameter.repeats() { 2 } else { 1 };
        assert_eq!(twice.iter().count(), count, "{parameter:?}");
    }
    let mut parameters = Parameters::new();
    for parameter in samples().into_iter().rev() {
        parameters.push(parameter);
    }
    let order = parameters.iter().map(Parameter::wire_type);
    assert!(order.is_sorted());
    let later = Token::UseAlias { alias: 2 };
    parameters.push(Parameter::AuthorizationToken(later.clone()));
    let tokens: Vec<_> = parameters.authorization_tokens().cloned().collect();
    assert_eq!(tokens, [Token::UseAlias { alias: 1 }, later]);
}

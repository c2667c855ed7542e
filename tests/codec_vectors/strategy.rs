//! Values of every kind that a draft can say, for property tests.

use aip_codec::{
    Version,
    aip::{
        call::Call,
        hops::{HOPS_MAX, Hops, RelayId},
        setup_option::AipOption,
        trace::TraceContext,
    },
    moqt::{
        error_code::{PublishDoneCode, RequestCode},
        filter::{LocationFilter, Range, RangeFilter, Ranges},
        id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
        key_value::{KeyValue, Value},
        location::Location,
        message::{
            Fetch, FetchOk, FetchTarget, Goaway, Message, MessageType, Namespace, NamespaceDone,
            Publish, PublishDone, PublishNamespace, PublishSkipped, PublishStateNotify, Reason,
            Redirect, RequestError, RequestOk, RequestUpdate, Setup, Subscribe, SubscribeNamespace,
            SubscribeOk, SubscribeTracks, TrackStatus,
        },
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
        token::Token,
    },
};
use bytes::{Bytes, BytesMut};
use proptest::{
    collection::vec,
    option,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
};

pub(crate) fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(&Version::PREFERENCE[..])
}

/// Small ones, those at which the encoding grows, and any.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..300_u64,
        1 => (0..64_u32, 0..3_u64).prop_map(|(bits, less)| (1_u64 << bits).wrapping_sub(less)),
        1 => any::<u64>(),
    ]
}

pub(crate) fn bytes(length_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=length_max).prop_map(Bytes::from)
}

pub(crate) fn location() -> impl Strategy<Value = Location> {
    (number(), number()).prop_map(|(group, object)| Location::new(group, object))
}

fn request_id() -> impl Strategy<Value = RequestId> {
    number().prop_map(RequestId)
}

pub(crate) fn namespace() -> impl Strategy<Value = TrackNamespace> {
    let fields = prop_oneof![
        8 => vec(vec(any::<u8>(), 1..12), 0..4),
        1 => vec(vec(any::<u8>(), 1..200), 0..=20),
        1 => vec(vec(any::<u8>(), 1..3), 32),
    ];
    fields.prop_map(|fields| TrackNamespace::new(fields).unwrap())
}

pub(crate) fn track() -> impl Strategy<Value = FullTrackName> {
    (namespace(), bytes(60))
        .prop_map(|(namespace, name)| FullTrackName::new(namespace, name).unwrap())
}

pub(crate) fn token() -> impl Strategy<Value = Token> {
    prop_oneof![
        number().prop_map(|alias| Token::Delete { alias }),
        (number(), number(), bytes(40)).prop_map(|(alias, token_type, value)| Token::Register {
            alias,
            token_type,
            value
        }),
        number().prop_map(|alias| Token::UseAlias { alias }),
        (number(), bytes(40)).prop_map(|(token_type, value)| Token::UseValue { token_type, value }),
    ]
}

/// Pairs whose types no draft gives a meaning.
pub(crate) fn key_value() -> impl Strategy<Value = KeyValue> {
    let integer = (number(), number()).prop_map(|(half, integer)| KeyValue {
        key_type: 0x3000 + half % (1 << 50) * 2,
        value: Value::Integer(integer),
    });
    let bytes = (number(), bytes(40)).prop_map(|(half, bytes)| KeyValue {
        key_type: 0x3001 + half % (1 << 50) * 2,
        value: Value::Bytes(bytes),
    });
    prop_oneof![integer, bytes]
}

fn known_property() -> impl Strategy<Value = KeyValue> {
    let integers = prop_oneof![
        (proptest::sample::select(&[0x02_u64, 0x04, 0x06, 0x3c, 0x3e, 0x4000][..]), number()),
        (Just(0x0e_u64), 0..=255_u64),
        (Just(0x22_u64), 1..=2_u64),
        (Just(0x30_u64), 0..=1_u64),
    ];
    let integers =
        integers.prop_map(|(key_type, value)| KeyValue { key_type, value: Value::Integer(value) });
    let immutable = vec(key_value(), 0..3).prop_map(|pairs| {
        let inner = pairs.into_iter().fold(Properties::builder(), |inner, pair| inner.pair(pair));
        let inner = inner.build().unwrap();
        KeyValue { key_type: 0x0b, value: Value::Bytes(inner.as_bytes().clone()) }
    });
    prop_oneof![4 => integers, 1 => immutable]
}

pub(crate) fn properties() -> impl Strategy<Value = Properties> {
    vec(prop_oneof![key_value(), known_property()], 0..4).prop_map(|pairs| {
        let builder = pairs.into_iter().fold(Properties::builder(), |block, pair| block.pair(pair));
        builder.build().unwrap()
    })
}

/// Filters that the draft says in one form only.
pub(crate) fn location_filter(version: Version) -> BoxedStrategy<LocationFilter> {
    let start = location().prop_map(|start| LocationFilter::Start { start });
    let groups = (location(), number()).prop_map(|(start, count)| LocationFilter::Groups {
        start,
        end_group: GroupId(start.group.0.saturating_add(count)),
    });
    let range = (location(), location()).prop_map(|(start, end)| LocationFilter::Range {
        start,
        end: Location { group: start.group.max(end.group), object: end.object },
    });
    if version <= Version::Draft19 {
        let next_group = Just(LocationFilter::Relative { groups_back: 0 });
        return prop_oneof![next_group, Just(LocationFilter::NextObject), start, groups].boxed();
    }
    let relative = number().prop_map(|groups_back| LocationFilter::Relative { groups_back });
    let is_sayable = move |filter: &LocationFilter| {
        *filter != LocationFilter::Start { start: Location::default() }
            || version == Version::Draft22
    };
    let rest = prop_oneof![Just(LocationFilter::None), Just(LocationFilter::NextObject)];
    prop_oneof![relative, start, groups, range, rest].prop_filter("no form", is_sayable).boxed()
}

pub(crate) fn ranges(with_property_type: bool) -> impl Strategy<Value = Ranges> {
    let bounds = vec((0..100_u64, 0..100_u64, any::<bool>()), 1..5);
    (any::<u8>(), number(), bounds).prop_map(move |(set, half, bounds)| {
        let mut at = 0;
        let mut ranges = Vec::new();
        for (gap, length, is_open) in bounds {
            let start = at + gap;
            at = start + length;
            ranges.push(Range { start, end: if is_open { u64::MAX } else { at } });
            if is_open {
                break;
            }
        }
        let property_type = with_property_type.then_some(half / 2 * 2);
        Ranges { set, property_type, ranges }
    })
}

fn range_filter() -> impl Strategy<Value = RangeFilter> {
    prop_oneof![
        any::<bool>().prop_flat_map(ranges).prop_map(|ranges| RangeFilter::from_ranges(&ranges)),
        bytes(10).prop_map(|raw| RangeFilter { raw }),
    ]
}

fn hops() -> impl Strategy<Value = Hops> {
    vec(number().prop_map(RelayId), 0..=HOPS_MAX).prop_map(|list| Hops::try_from(list).unwrap())
}

fn trace_context() -> impl Strategy<Value = TraceContext> {
    (1..=u128::MAX, 1..=u64::MAX, any::<bool>()).prop_map(|(trace, span, sampled)| TraceContext {
        trace: trace.to_be_bytes(),
        span: span.to_be_bytes(),
        sampled,
    })
}

fn parameter(version: Version) -> BoxedStrategy<Parameter> {
    let numbers = (number(), 0..9_usize).prop_map(|(value, kind)| match kind {
        0 => Parameter::ObjectDeliveryTimeout(value),
        1 => Parameter::RendezvousTimeout(value),
        2 => Parameter::SubgroupDeliveryTimeout(value),
        3 => Parameter::Expires(value),
        4 => Parameter::FillTimeout(value),
        5 => Parameter::NewGroupRequest(value),
        6 => Parameter::Cost(value),
        7 => Parameter::ResumeAfter(value),
        _ => Parameter::Deadline(value),
    });
    let filters = (range_filter(), 0..5_usize).prop_map(|(filter, kind)| match kind {
        0 => Parameter::SubgroupFilter(filter),
        1 => Parameter::ObjectIdFilter(filter),
        2 => Parameter::PriorityFilter(filter),
        3 => Parameter::ObjectPropertyFilter(filter),
        _ => Parameter::TrackPropertyFilter(filter),
    });
    let order = prop_oneof![Just(GroupOrder::Ascending), Just(GroupOrder::Descending)];
    prop_oneof![
        6 => numbers,
        5 => filters,
        2 => token().prop_map(Parameter::AuthorizationToken),
        1 => location().prop_map(Parameter::LargestObject),
        1 => any::<bool>().prop_map(Parameter::Forward),
        1 => any::<u8>().prop_map(Parameter::SubscriberPriority),
        2 => location_filter(version).prop_map(Parameter::LocationFilter),
        1 => order.prop_map(Parameter::GroupOrder),
        1 => namespace().prop_map(Parameter::TrackNamespacePrefix),
        1 => any::<bool>().prop_map(Parameter::IncludeProperties),
        1 => bytes(64).prop_map(Parameter::IdempotencyKey),
        1 => bytes(20).prop_map(Parameter::ContentType),
        1 => hops().prop_map(Parameter::Hops),
        1 => trace_context().prop_map(Parameter::TraceContext),
    ]
    .boxed()
}

/// Whether the draft has a place for `parameter` in `message`.
pub(crate) fn is_allowed(version: Version, message: MessageType, parameter: &Parameter) -> bool {
    let parameters = Parameters::new().with(parameter.clone());
    parameters.encode(version, message, &mut BytesMut::new()).is_ok()
}

pub(crate) fn parameters(
    version: Version,
    message: MessageType,
) -> impl Strategy<Value = Parameters> {
    let list = || vec(parameter(version), 0..12);
    (list(), option::of(list())).prop_map(move |(list, fill)| {
        let fill = fill.map(|fill| {
            let is_in_fill = |parameter: &Parameter| {
                let fill = Parameters::new().with(parameter.clone());
                is_allowed(version, MessageType::Subscribe, &Parameter::FillParameters(fill))
            };
            Parameter::FillParameters(
                fill.into_iter().filter(is_in_fill).fold(Parameters::new(), Parameters::with),
            )
        });
        list.into_iter()
            .chain(fill)
            .filter(|parameter| is_allowed(version, message, parameter))
            .fold(Parameters::new(), Parameters::with)
    })
}

fn reason() -> impl Strategy<Value = Reason> {
    ".{0,40}".prop_map(|text| Reason::new(&text))
}

fn setup(version: Version) -> BoxedStrategy<Setup> {
    let texts = (option::of(bytes(30)), option::of(bytes(30)), option::of(bytes(30)));
    let limits = (number(), number(), number());
    let aip = (option::of((any::<u8>(), vec(bytes(10), 0..3))), option::of(1..u64::MAX));
    (texts, vec(token(), 0..3), limits, aip, vec(key_value(), 0..4))
        .prop_map(
            move |(
                (path, authority, implementation),
                tokens,
                limits,
                (aip, relay),
                mut unknown,
            )| {
                let knows_limits = Version::Draft19 <= version;
                unknown.sort_by_key(|option| option.key_type);
                Setup {
                    path,
                    authority,
                    tokens,
                    max_auth_token_cache_size: limits.0,
                    max_filter_ranges: if knows_limits { limits.1 } else { 0 },
                    implementation,
                    max_request_updates: if knows_limits { limits.2 } else { 0 },
                    aip: aip.map(|(profile_version, content_types)| AipOption {
                        profile_version,
                        content_types,
                    }),
                    relay_id: relay.map(RelayId),
                    unknown,
                }
            },
        )
        .boxed()
}

fn goaway(version: Version) -> BoxedStrategy<Goaway> {
    (bytes(60), number(), option::of(request_id()))
        .prop_map(move |(uri, timeout, request_id)| Goaway {
            uri,
            timeout,
            request_id: request_id.filter(|_| version == Version::Draft18),
        })
        .boxed()
}

fn request_error() -> impl Strategy<Value = RequestError> {
    let redirect = (bytes(40), namespace(), bytes(20));
    let code = prop_oneof![number(), Just(RequestCode::REDIRECT.0)];
    (code, number(), reason(), redirect).prop_map(
        |(code, retry_interval, reason, (uri, namespace, name))| RequestError {
            code: RequestCode(code),
            retry_interval,
            reason,
            redirect: (RequestCode(code) == RequestCode::REDIRECT).then_some(Redirect {
                uri,
                namespace,
                name,
            }),
        },
    )
}

fn fetch_target(version: Version) -> BoxedStrategy<FetchTarget> {
    if Version::Draft20 <= version {
        return track().prop_map(FetchTarget::Track).boxed();
    }
    let standalone = (track(), location(), location()).prop_map(|(track, one, other)| {
        FetchTarget::Standalone { track, start: one.min(other), end: one.max(other) }
    });
    let joining =
        (any::<bool>(), request_id(), number()).prop_map(|(relative, request_id, start)| {
            FetchTarget::Joining { relative, request_id, start }
        });
    prop_oneof![standalone, joining].boxed()
}

fn publish_done() -> impl Strategy<Value = PublishDone> {
    // The two numbers that say unknown are no counts.
    let count = number().prop_map(|count| Some(count).filter(|count| *count < (1 << 62) - 1));
    (number(), count, reason()).prop_map(|(code, stream_count, reason)| PublishDone {
        code: PublishDoneCode(code),
        stream_count,
        reason,
    })
}

/// A message of this type.
pub(crate) fn message_of(version: Version, kind: MessageType) -> BoxedStrategy<Message> {
    let parameters = parameters(version, kind);
    match kind {
        MessageType::Setup => setup(version).prop_map(Message::Setup).boxed(),
        MessageType::Goaway => goaway(version).prop_map(Message::Goaway).boxed(),
        MessageType::RequestOk => (parameters, properties())
            .prop_map(|(parameters, properties)| {
                Message::RequestOk(RequestOk { parameters, properties })
            })
            .boxed(),
        MessageType::RequestError => request_error().prop_map(Message::RequestError).boxed(),
        MessageType::RequestUpdate => (request_id(), parameters)
            .prop_map(|(request_id, parameters)| {
                Message::RequestUpdate(RequestUpdate { request_id, parameters })
            })
            .boxed(),
        MessageType::SubscribeOk => (number(), parameters, properties())
            .prop_map(|(alias, parameters, properties)| {
                let track_alias = TrackAlias(alias);
                Message::SubscribeOk(SubscribeOk { track_alias, parameters, properties })
            })
            .boxed(),
        MessageType::Publish => (request_id(), track(), number(), parameters, properties())
            .prop_map(|(request_id, track, alias, parameters, properties)| {
                let track_alias = TrackAlias(alias);
                Message::Publish(Publish { request_id, track, track_alias, parameters, properties })
            })
            .boxed(),
        MessageType::PublishDone => publish_done().prop_map(Message::PublishDone).boxed(),
        MessageType::PublishStateNotify => parameters
            .prop_map(|parameters| Message::PublishStateNotify(PublishStateNotify { parameters }))
            .boxed(),
        MessageType::Fetch => (request_id(), fetch_target(version), parameters)
            .prop_map(|(request_id, target, parameters)| {
                Message::Fetch(Fetch { request_id, target, parameters })
            })
            .boxed(),
        MessageType::FetchOk => (any::<bool>(), location(), parameters, properties())
            .prop_map(|(end_of_track, end, parameters, properties)| {
                Message::FetchOk(FetchOk { end_of_track, end, parameters, properties })
            })
            .boxed(),
        MessageType::Subscribe | MessageType::TrackStatus | MessageType::Call => {
            (request_id(), track(), parameters)
                .prop_map(move |(request_id, track, parameters)| {
                    track_request(kind, request_id, track, parameters)
                })
                .boxed()
        }
        MessageType::PublishNamespace
        | MessageType::SubscribeNamespace
        | MessageType::SubscribeTracks => (request_id(), namespace(), parameters)
            .prop_map(move |(request_id, namespace, parameters)| {
                namespace_request(kind, request_id, namespace, parameters)
            })
            .boxed(),
        MessageType::Namespace => (namespace(), parameters)
            .prop_map(|(suffix, parameters)| Message::Namespace(Namespace { suffix, parameters }))
            .boxed(),
        MessageType::NamespaceDone => {
            namespace().prop_map(|suffix| Message::NamespaceDone(NamespaceDone { suffix })).boxed()
        }
        MessageType::PublishSkipped => (namespace(), bytes(20))
            .prop_map(|(suffix, name)| Message::PublishSkipped(PublishSkipped { suffix, name }))
            .boxed(),
    }
}

fn track_request(
    kind: MessageType,
    request_id: RequestId,
    track: FullTrackName,
    parameters: Parameters,
) -> Message {
    match kind {
        MessageType::Subscribe => Message::Subscribe(Subscribe { request_id, track, parameters }),
        MessageType::Call => {
            let (namespace, name) = track.into_parts();
            Message::Call(Call { request_id, namespace, name, parameters })
        }
        _ => Message::TrackStatus(TrackStatus { request_id, track, parameters }),
    }
}

fn namespace_request(
    kind: MessageType,
    request_id: RequestId,
    namespace: TrackNamespace,
    parameters: Parameters,
) -> Message {
    let prefix = namespace.clone();
    match kind {
        MessageType::SubscribeNamespace => {
            Message::SubscribeNamespace(SubscribeNamespace { request_id, prefix, parameters })
        }
        MessageType::SubscribeTracks => {
            Message::SubscribeTracks(SubscribeTracks { request_id, prefix, parameters })
        }
        _ => Message::PublishNamespace(PublishNamespace { request_id, namespace, parameters }),
    }
}

/// The messages that a draft has.
pub(crate) fn message_types(version: Version) -> Vec<MessageType> {
    let is_known = |kind: &MessageType| MessageType::from_code(version, kind.code()).is_ok();
    MessageType::ALL.iter().copied().filter(is_known).collect()
}

pub(crate) fn message(version: Version) -> impl Strategy<Value = Message> {
    proptest::sample::select(message_types(version))
        .prop_flat_map(move |kind| message_of(version, kind))
}

/// Objects' numbers, ascending.
pub(crate) fn object_ids(count_max: usize) -> impl Strategy<Value = Vec<ObjectId>> {
    vec(prop_oneof![3 => 0..3_u64, 1 => number()], 0..=count_max).prop_map(|gaps| {
        let mut next = Some(0_u64);
        let ids = gaps.into_iter().map_while(move |gap| {
            let id = next?.checked_add(gap)?;
            next = id.checked_add(1);
            Some(ObjectId(id))
        });
        ids.collect()
    })
}

pub(crate) fn subgroup_id() -> impl Strategy<Value = SubgroupId> {
    prop_oneof![4 => 0..3_u64, 1 => number()].prop_map(SubgroupId)
}

//! Control messages.

use aip_codec::{
    Version,
    moqt::{
        key_value::{KeyValue, Value},
        message::{FetchTarget, Message, Redirect, Setup},
        name::TrackNamespace,
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
    },
};
use bytes::{Bytes, BytesMut};
use moqtap_codec::{
    kvp::{KeyValuePair, KvpValue},
    varint::{Moqt18, VarInt},
};
use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_assert_eq, prop_assume, prop_oneof},
    proptest,
    sample::select,
};

use super::{
    super::{decode, encode, strategy},
    CONTROL, VERSIONS, agree, mutation,
    peer::{self, Pieces, Summary},
};

/// A message that the peer can write too: not CALL, no parameter of ours, and no unknown setup
/// option twice.
fn message(version: Version) -> impl Strategy<Value = Message> {
    strategy::message(version).prop_filter("only ours", |message| match message {
        Message::Call(_) => false,
        Message::Setup(setup) => {
            setup.unknown.windows(2).all(|pair| pair[0].key_type != pair[1].key_type)
        }
        Message::Publish(message) => is_plain(&message.parameters),
        Message::PublishNamespace(message) => is_plain(&message.parameters),
        Message::Namespace(message) => is_plain(&message.parameters),
        Message::RequestUpdate(message) => is_plain(&message.parameters),
        Message::Subscribe(message) => is_plain(&message.parameters),
        Message::SubscribeTracks(message) => is_plain(&message.parameters),
        _ => true,
    })
}

/// Whether the draft knows all of these parameters.
fn is_plain(parameters: &Parameters) -> bool {
    parameters.hops().is_none() && parameters.cost().is_none()
}

fn numbers(summary: Summary, numbers: &[u64]) -> Summary {
    Summary { numbers: numbers.to_vec(), ..summary }
}

fn strings(summary: Summary, namespace: &TrackNamespace, name: Option<&Bytes>) -> Summary {
    let fields = namespace.fields().map(<[u8]>::to_vec);
    let strings = summary.strings.into_iter().chain(fields).chain(name.map(|name| name.to_vec()));
    Summary { strings: strings.collect(), ..summary }
}

fn parameters(summary: Summary, parameters: &Parameters) -> Summary {
    let number = |parameter: &Parameter| match parameter {
        Parameter::ObjectDeliveryTimeout(number)
        | Parameter::RendezvousTimeout(number)
        | Parameter::SubgroupDeliveryTimeout(number)
        | Parameter::Expires(number)
        | Parameter::FillTimeout(number)
        | Parameter::NewGroupRequest(number) => Some(*number),
        Parameter::Forward(flag) | Parameter::IncludeProperties(flag) => Some((*flag).into()),
        Parameter::SubscriberPriority(priority) => Some((*priority).into()),
        Parameter::GroupOrder(GroupOrder::Ascending) => Some(1),
        Parameter::GroupOrder(GroupOrder::Descending) => Some(2),
        _ => None,
    };
    let parameters = parameters.iter().map(|parameter| (parameter.wire_type(), number(parameter)));
    Summary { parameters: parameters.collect(), ..summary }
}

fn pairs(summary: Summary, pairs: impl Iterator<Item = KeyValue>) -> Summary {
    let properties = pairs.map(|pair| match pair.value {
        Value::Integer(integer) => (pair.key_type, Some(integer)),
        Value::Bytes(_) => (pair.key_type, None),
    });
    Summary { properties: properties.collect(), ..summary }
}

fn properties(summary: Summary, properties: &Properties) -> Summary {
    pairs(summary, properties.iter())
}

fn setup(summary: Summary, setup: &Setup) -> Summary {
    let bytes = |key_type: u64, is_there: bool| is_there.then_some((key_type, None));
    let integer = |key_type: u64, value: u64| (value != 0).then_some((key_type, Some(value)));
    let known = [
        bytes(0x01, setup.path.is_some()),
        integer(0x04, setup.max_auth_token_cache_size),
        bytes(0x05, setup.authority.is_some()),
        integer(0x06, setup.max_filter_ranges),
        bytes(0x07, setup.implementation.is_some()),
        integer(0x08, setup.max_request_updates),
        bytes(0x4a1, setup.aip.is_some()),
        integer(0x4a4, setup.relay_id.map_or(0, |relay| relay.0)),
    ];
    let unknown = pairs(Summary::default(), setup.unknown.iter().cloned()).properties;
    let tokens = setup.tokens.iter().map(|_| (0x03, None));
    let mut options: Vec<_> = known.into_iter().flatten().chain(tokens).chain(unknown).collect();
    options.sort_by_key(|(key_type, _)| *key_type);
    Summary { properties: options, ..summary }
}

fn fetch_target(summary: Summary, request_id: u64, target: &FetchTarget) -> Summary {
    match target {
        FetchTarget::Track(track) => {
            strings(numbers(summary, &[request_id]), track.namespace(), Some(track.name()))
        }
        FetchTarget::Standalone { track, start, end } => strings(
            numbers(
                summary,
                &[request_id, start.group.0, start.object.0, end.group.0, end.object.0],
            ),
            track.namespace(),
            Some(track.name()),
        ),
        FetchTarget::Joining { request_id: joined, start, .. } => {
            numbers(summary, &[request_id, joined.0, *start])
        }
    }
}

/// What `message` says, field by field.
fn summary(version: Version, message: &Message) -> Summary {
    let start = Summary { code: message.message_type().code(), ..Summary::default() };
    let text = |start: Summary, text: &Bytes| Summary { strings: vec![text.to_vec()], ..start };
    let unknown_count = if version == Version::Draft18 { (1 << 62) - 1 } else { u64::MAX };
    match message {
        Message::Setup(m) => setup(start, m),
        Message::Goaway(m) => {
            let list: Vec<_> =
                std::iter::once(m.timeout).chain(m.request_id.map(|id| id.0)).collect();
            numbers(text(start, &m.uri), &list)
        }
        Message::RequestOk(m) => properties(parameters(start, &m.parameters), &m.properties),
        Message::RequestError(m) => {
            let start = text(start, m.reason.as_bytes());
            let start = numbers(start, &[m.code.0, m.retry_interval]);
            match &m.redirect {
                None => start,
                Some(Redirect { uri, namespace, name }) => {
                    let mut start = start;
                    start.strings.push(uri.to_vec());
                    strings(start, namespace, Some(name))
                }
            }
        }
        Message::RequestUpdate(m) => parameters(numbers(start, &[m.request_id.0]), &m.parameters),
        Message::Subscribe(m) => {
            let start = strings(start, m.track.namespace(), Some(m.track.name()));
            parameters(numbers(start, &[m.request_id.0]), &m.parameters)
        }
        Message::SubscribeOk(m) => {
            let start = numbers(start, &[m.track_alias.0]);
            properties(parameters(start, &m.parameters), &m.properties)
        }
        Message::Publish(m) => {
            let start = strings(start, m.track.namespace(), Some(m.track.name()));
            let start = numbers(start, &[m.request_id.0, m.track_alias.0]);
            properties(parameters(start, &m.parameters), &m.properties)
        }
        Message::PublishDone(m) => {
            let count = m.stream_count.unwrap_or(unknown_count);
            numbers(text(start, m.reason.as_bytes()), &[m.code.0, count])
        }
        Message::PublishStateNotify(m) => parameters(start, &m.parameters),
        Message::Fetch(m) => {
            parameters(fetch_target(start, m.request_id.0, &m.target), &m.parameters)
        }
        Message::FetchOk(m) => {
            let list = [m.end_of_track.into(), m.end.group.0, m.end.object.0];
            properties(parameters(numbers(start, &list), &m.parameters), &m.properties)
        }
        Message::TrackStatus(m) => {
            let start = strings(start, m.track.namespace(), Some(m.track.name()));
            parameters(numbers(start, &[m.request_id.0]), &m.parameters)
        }
        Message::PublishNamespace(m) => {
            let start = strings(start, &m.namespace, None);
            parameters(numbers(start, &[m.request_id.0]), &m.parameters)
        }
        Message::SubscribeNamespace(m) => {
            let start = strings(start, &m.prefix, None);
            parameters(numbers(start, &[m.request_id.0]), &m.parameters)
        }
        Message::SubscribeTracks(m) => {
            let start = strings(start, &m.prefix, None);
            parameters(numbers(start, &[m.request_id.0]), &m.parameters)
        }
        Message::Namespace(m) => strings(start, &m.suffix, None),
        Message::NamespaceDone(m) => strings(start, &m.suffix, None),
        Message::PublishSkipped(m) => strings(start, &m.suffix, Some(&m.name)),
        Message::Call(_) => start,
    }
}

fn integer_bytes(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for &number in numbers {
        VarInt::from_u64_moqt(number).encode_moqt::<Moqt18>(&mut out);
    }
    out
}

/// A parameter in the peer's terms.
fn their_parameter(version: Version) -> BoxedStrategy<KeyValuePair> {
    let varint = |value: u64| KvpValue::Varint(VarInt::from_u64_moqt(value));
    let numbers = (select(&[0x02_u64, 0x04, 0x06, 0x08, 0x0a, 0x32][..]), strategy::number())
        .prop_map(move |(key, value)| (key, varint(value)));
    let bytes = prop_oneof![
        (Just(0x10_u64), 0..2_u64),
        (Just(0x35_u64), 0..2_u64),
        (Just(0x20_u64), 0..256_u64),
        (Just(0x22_u64), 1..3_u64),
    ];
    let bytes = bytes.prop_map(move |(key, value)| (key, varint(value)));
    let location = (strategy::number(), strategy::number())
        .prop_map(|(group, object)| (0x09, KvpValue::Bytes(integer_bytes(&[group, object]))));
    let token = (0..4_u64, strategy::number(), strategy::number(), vec(any::<u8>(), 0..20))
        .prop_map(|(kind, one, other, value)| {
            let token = match kind {
                0 | 2 => integer_bytes(&[kind, one]),
                1 => [integer_bytes(&[kind, one, other]), value].concat(),
                _ => [integer_bytes(&[kind, one]), value].concat(),
            };
            (0x03, KvpValue::Bytes(token))
        });
    let filters = (0x25..0x2a_u64, vec(any::<u8>(), 0..10))
        .prop_map(|(key, value)| (key, KvpValue::Bytes(value)));
    let filter = move |(count, [one, two, three, four]): (usize, [u64; 4])| {
        let list = [one, two, three.min(u64::MAX - one), four];
        let filter = if version == Version::Draft22 {
            let count_of_fields = count % 5;
            let kind = if count == 5 { 5 } else { count_of_fields as u64 };
            [integer_bytes(&[kind]), integer_bytes(&list[..count_of_fields])].concat()
        } else {
            let (kind, fields) = [(1, 0), (2, 0), (3, 2), (4, 3)][count % 4];
            [integer_bytes(&[kind]), integer_bytes(&list[..fields])].concat()
        };
        (0x21, KvpValue::Bytes(filter))
    };
    let four = || [strategy::number(), strategy::number(), strategy::number(), strategy::number()];
    let location_filter = (0..6_usize, four()).prop_map(filter);
    let fill = (any::<u8>(), any::<bool>()).prop_map(|(priority, is_empty)| {
        let block = if is_empty { vec![0] } else { vec![2, 0x20, priority, 0x02, 0x01] };
        (0x23, KvpValue::Bytes(block))
    });
    let prefix = vec(1..100_u8, 0..3).prop_map(|lengths| {
        let fields =
            lengths.iter().map(|&length| [vec![length], vec![length; length.into()]].concat());
        let count = vec![u8::try_from(lengths.len()).unwrap()];
        (0x34, KvpValue::Bytes(std::iter::once(count).chain(fields).flatten().collect()))
    });
    prop_oneof![6 => numbers, 4 => bytes, 1 => location, 2 => token, 3 => filters, 2 => location_filter, 1 => fill, 1 => prefix]
        .prop_map(|(key, value)| KeyValuePair { key: VarInt::from_u64_moqt(key), value })
        .boxed()
}

fn their_property() -> impl Strategy<Value = KeyValuePair> {
    let integer = (strategy::number(), strategy::number())
        .prop_map(|(key, value)| (key / 2 * 2, KvpValue::Varint(VarInt::from_u64_moqt(value))));
    let bytes = (strategy::number(), vec(any::<u8>(), 0..20))
        .prop_map(|(key, value)| (key | 1, KvpValue::Bytes(value)));
    prop_oneof![integer, bytes]
        .prop_map(|(key, value)| KeyValuePair { key: VarInt::from_u64_moqt(key), value })
}

fn pieces(version: Version) -> impl Strategy<Value = Pieces> {
    let four = [strategy::number(), strategy::number(), strategy::number(), strategy::number()];
    let names = (vec(vec(any::<u8>(), 1..10), 0..5), vec(any::<u8>(), 0..20));
    let lists = (vec(their_parameter(version), 0..6), vec(their_property(), 0..4));
    (0..18_usize, four, any::<bool>(), names, vec(any::<u8>(), 0..30), lists).prop_map(
        |(kind, numbers, flag, (namespace, name), text, (mut parameters, mut properties))| {
            parameters.sort_by_key(|pair| pair.key.into_inner());
            properties.sort_by_key(|pair| pair.key.into_inner());
            Pieces { kind, numbers, flag, namespace, name, text, parameters, properties }
        },
    )
}

/// Whether FILL_PARAMETERS stand there without their count, which the draft leaves open: we read
/// both forms, the peer one.
fn is_bare_fill(version: Version, message: &Message, bytes: &Bytes) -> bool {
    let parameters = match message {
        Message::Subscribe(subscribe) => &subscribe.parameters,
        Message::SubscribeTracks(subscribe) => &subscribe.parameters,
        Message::RequestUpdate(update) => &update.parameters,
        _ => return false,
    };
    parameters.fill_parameters().is_some() && encode(version, message) != bytes
}

proptest! {
    #[test]
    fn what_we_write_the_peer_reads_as_the_same(
        (version, message) in select(&VERSIONS[..])
            .prop_flat_map(|version| message(version).prop_map(move |message| (version, message)))
    ) {
        let bytes = encode(version, &message);
        let again = peer::reencode(version, &bytes);
        prop_assert_eq!(again.map_err(|refusal| refusal.0), Ok(bytes.to_vec()));
        prop_assert_eq!(peer::summary(version, &bytes).unwrap(), summary(version, &message));
    }

    #[test]
    fn what_the_peer_writes_we_read_as_the_same(
        (version, pieces) in select(&VERSIONS[..])
            .prop_flat_map(|version| pieces(version).prop_map(move |pieces| (version, pieces)))
    ) {
        let Some(bytes) = peer::build(version, &pieces) else { return Ok(()) };
        let ours = decode(version, bytes.clone().into());
        agree(&CONTROL, ours.clone(), Ok(()), &bytes)?;
        let Ok(message) = ours else { return Ok(()) };
        prop_assert_eq!(encode(version, &message), &bytes[..]);
        prop_assert_eq!(peer::summary(version, &bytes).unwrap(), summary(version, &message));
    }

    #[test]
    fn both_refuse_the_same_messages(
        (version, message) in select(&VERSIONS[..])
            .prop_flat_map(|version| message(version).prop_map(move |message| (version, message))),
        mutations in mutation::several(),
    ) {
        let frame = super::super::frame(version, encode(version, &message)).unwrap();
        let mut body = frame.body.to_vec();
        mutation::apply(&mut body, &mutations);
        let mut bytes = BytesMut::new();
        aip_codec::moqt::varint::encode(frame.kind.code(), &mut bytes);
        prop_assume!(body.len() <= u16::MAX.into());
        bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&body);
        let bytes = bytes.freeze();
        let ours = decode(version, bytes.clone());
        prop_assume!(!ours.as_ref().is_ok_and(|message| is_bare_fill(version, message, &bytes)));
        agree(&CONTROL, ours, peer::accepts(version, &bytes), &bytes)?;
    }
}

//! moqtap-codec, one module for each draft, behind the same functions.

use aip_codec::Version;
use moqtap_codec::{
    error::CodecError,
    kvp::{KeyValuePair, KvpValue},
    types::TrackNamespace,
    varint::VarInt,
};

/// How the peer says no.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        Self(format!("{error:?}"))
    }
}

/// What a message says, without the words for it: comparable between codecs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Summary {
    /// The message's type.
    pub(super) code: u64,
    /// Fields that are numbers.
    pub(super) numbers: Vec<u64>,
    /// Fields that are bytes; a namespace is its fields.
    pub(super) strings: Vec<Vec<u8>>,
    /// Parameters; with those values that are numbers.
    pub(super) parameters: Vec<(u64, Option<u64>)>,
    /// Properties or setup options; with those values that are numbers.
    pub(super) properties: Vec<(u64, Option<u64>)>,
}

impl Summary {
    fn number(mut self, number: VarInt) -> Self {
        self.numbers.push(number.into_inner());
        self
    }

    fn string(mut self, string: &[u8]) -> Self {
        self.strings.push(string.to_vec());
        self
    }

    fn namespace(mut self, namespace: &TrackNamespace) -> Self {
        self.strings.extend(namespace.0.iter().cloned());
        self
    }

    fn parameters(mut self, parameters: &[KeyValuePair]) -> Self {
        self.parameters.extend(parameters.iter().map(pair));
        self
    }

    fn properties(mut self, properties: &[KeyValuePair]) -> Self {
        self.properties.extend(properties.iter().map(pair));
        self
    }
}

fn pair(pair: &KeyValuePair) -> (u64, Option<u64>) {
    let number = match &pair.value {
        KvpValue::Varint(number) => Some(number.into_inner()),
        KvpValue::Bytes(_) => None,
    };
    (pair.key.into_inner(), number)
}

/// The pieces that a message is made of.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) kind: usize,
    pub(super) numbers: [u64; 4],
    pub(super) flag: bool,
    pub(super) namespace: Vec<Vec<u8>>,
    pub(super) name: Vec<u8>,
    pub(super) text: Vec<u8>,
    /// Ascending; those without place are left out.
    pub(super) parameters: Vec<KeyValuePair>,
    pub(super) properties: Vec<KeyValuePair>,
}

impl Pieces {
    fn number(&self, index: usize) -> VarInt {
        VarInt::from_u64_moqt(self.numbers[index])
    }

    fn namespace(&self) -> TrackNamespace {
        TrackNamespace(self.namespace.clone())
    }
}

/// A subgroup stream as the peer reads it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ReadSubgroup {
    /// Numbers and payloads.
    pub(super) objects: Vec<(u64, Vec<u8>)>,
    /// The stream written again.
    pub(super) again: Vec<u8>,
}

/// A datagram as the peer reads it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ReadDatagram {
    pub(super) object: u64,
    /// The datagram written again.
    pub(super) again: Vec<u8>,
}

/// A fetch stream as the peer reads it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ReadFetch {
    pub(super) request_id: u64,
    pub(super) objects: Vec<FetchedObject>,
}

/// An object of a fetch stream.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct FetchedObject {
    pub(super) group: u64,
    pub(super) subgroup: Option<u64>,
    pub(super) object: u64,
    pub(super) priority: Option<u8>,
    pub(super) payload: Vec<u8>,
}

macro_rules! peer {
    ($module:ident, $skipped:ident, $own:ident $(, $more:ident)*) => {
        pub(super) mod $module {
            use moqtap_codec::{
                varint::VarInt,
                $module::{
                    data_stream::{
                        DatagramHeader, FetchHeader, FetchObjectReader, GroupOrder, SubgroupHeader,
                        SubgroupObjectReader,
                    },
                    message::*,
                },
            };

            use super::{
                FetchedObject, Pieces, ReadDatagram, ReadFetch, ReadSubgroup, Refusal, Summary,
            };

            fn decode(mut bytes: &[u8]) -> Result<ControlMessage, Refusal> {
                let message = ControlMessage::decode(&mut bytes)?;
                if bytes.is_empty() { Ok(message) } else { Err(Refusal("bytes are left".into())) }
            }

            pub(in super::super) fn accepts(bytes: &[u8]) -> Result<(), Refusal> {
                decode(bytes).map(|_| ())
            }

            pub(in super::super) fn reencode(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
                let mut out = Vec::new();
                decode(bytes)?.encode(&mut out)?;
                Ok(out)
            }

            pub(in super::super) fn summary(bytes: &[u8]) -> Result<Summary, Refusal> {
                use ControlMessage as M;
                let message = decode(bytes)?;
                let code = message.message_type().id();
                let start = Summary { code, ..Summary::default() };
                Ok(match &message {
                    M::Setup(m) => start.properties(&m.options),
                    M::GoAway(m) => super::$own::goaway_summary(m, start),
                    M::RequestOk(m) => {
                        start.parameters(&m.parameters).properties(&m.track_properties)
                    }
                    M::RequestError(m) => error_summary(m, start),
                    M::RequestUpdate(m) => start.number(m.request_id).parameters(&m.parameters),
                    M::Subscribe(m) => start
                        .number(m.request_id)
                        .namespace(&m.track_namespace)
                        .string(&m.track_name)
                        .parameters(&m.parameters),
                    M::SubscribeOk(m) => start
                        .number(m.track_alias)
                        .parameters(&m.parameters)
                        .properties(&m.track_properties),
                    M::Publish(m) => start
                        .number(m.request_id)
                        .namespace(&m.track_namespace)
                        .string(&m.track_name)
                        .number(m.track_alias)
                        .parameters(&m.parameters)
                        .properties(&m.track_properties),
                    M::PublishDone(m) => {
                        start.number(m.status_code).number(m.stream_count).string(&m.reason_phrase)
                    }
                    M::Fetch(m) => super::$own::fetch_summary(m, start),
                    M::FetchOk(m) => start
                        .number(VarInt::from_u64_moqt(m.end_of_track.into()))
                        .number(m.end_group)
                        .number(m.end_object)
                        .parameters(&m.parameters)
                        .properties(&m.track_properties),
                    M::TrackStatus(m) => start
                        .number(m.request_id)
                        .namespace(&m.track_namespace)
                        .string(&m.track_name)
                        .parameters(&m.parameters),
                    M::PublishNamespace(m) => start
                        .number(m.request_id)
                        .namespace(&m.track_namespace)
                        .parameters(&m.parameters),
                    M::SubscribeNamespace(m) => start
                        .number(m.request_id)
                        .namespace(&m.namespace_prefix)
                        .parameters(&m.parameters),
                    M::SubscribeTracks(m) => start
                        .number(m.request_id)
                        .namespace(&m.namespace_prefix)
                        .parameters(&m.parameters),
                    M::Namespace(m) => start.namespace(&m.namespace_suffix),
                    M::NamespaceDone(m) => start.namespace(&m.namespace_suffix),
                    M::$skipped(m) => start.namespace(&m.namespace_suffix).string(&m.track_name),
                    $(M::$more(m) => start.parameters(&m.parameters),)*
                })
            }

            fn error_summary(error: &RequestError, start: Summary) -> Summary {
                let start = start
                    .number(error.error_code)
                    .number(error.retry_interval)
                    .string(&error.reason_phrase);
                match &error.redirect {
                    None => start,
                    Some(redirect) => start
                        .string(&redirect.connect_uri)
                        .namespace(&redirect.track_namespace)
                        .string(&redirect.track_name),
                }
            }

            /// The message that the pieces make, with as many parameters as have their place. The
            /// peer writes some that it does not read: those are none.
            pub(in super::super) fn build(pieces: &Pieces) -> Option<Vec<u8>> {
                let mut kept = Pieces { parameters: Vec::new(), ..pieces.clone() };
                for parameter in &pieces.parameters {
                    kept.parameters.push(parameter.clone());
                    if write(&kept).is_none() {
                        kept.parameters.pop();
                    }
                }
                write(&kept)
            }

            fn write(pieces: &Pieces) -> Option<Vec<u8>> {
                let mut out = Vec::new();
                message(pieces).encode(&mut out).ok()?;
                decode(&out).is_ok().then_some(out)
            }

            fn message(pieces: &Pieces) -> ControlMessage {
                use ControlMessage as M;
                let request_id = pieces.number(0);
                let track_namespace = pieces.namespace();
                let track_name = pieces.name.clone();
                let parameters = pieces.parameters.clone();
                let track_properties = pieces.properties.clone();
                let reason_phrase = pieces.text.clone();
                match pieces.kind % 18 {
                    0 => M::Setup(Setup { options: track_properties }),
                    1 => M::GoAway(super::$own::goaway(pieces)),
                    2 => M::RequestOk(RequestOk { parameters, track_properties }),
                    3 => M::RequestError(error(pieces)),
                    4 => M::RequestUpdate(RequestUpdate { request_id, parameters }),
                    5 => M::Subscribe(Subscribe {
                        request_id,
                        track_namespace,
                        track_name,
                        parameters,
                    }),
                    6 => M::SubscribeOk(SubscribeOk {
                        track_alias: pieces.number(1),
                        parameters,
                        track_properties,
                    }),
                    7 => M::Publish(Publish {
                        request_id,
                        track_namespace,
                        track_name,
                        track_alias: pieces.number(1),
                        parameters,
                        track_properties,
                    }),
                    8 => M::PublishDone(PublishDone {
                        status_code: pieces.number(0),
                        stream_count: pieces.number(1),
                        reason_phrase,
                    }),
                    9 => M::Fetch(super::$own::fetch(pieces)),
                    10 => M::FetchOk(FetchOk {
                        end_of_track: pieces.flag.into(),
                        end_group: pieces.number(1),
                        end_object: pieces.number(2),
                        parameters,
                        track_properties,
                    }),
                    11 => M::TrackStatus(TrackStatus {
                        request_id,
                        track_namespace,
                        track_name,
                        parameters,
                    }),
                    _ => namespace_message(pieces),
                }
            }

            fn error(pieces: &Pieces) -> RequestError {
                let code = if pieces.flag { 0x34 } else { pieces.numbers[1] };
                let redirect = Redirect {
                    connect_uri: pieces.text.clone(),
                    track_namespace: pieces.namespace(),
                    track_name: pieces.name.clone(),
                };
                RequestError {
                    error_code: VarInt::from_u64_moqt(code),
                    retry_interval: pieces.number(2),
                    reason_phrase: pieces.text.clone(),
                    redirect: (code == 0x34).then_some(redirect),
                }
            }

            fn namespace_message(pieces: &Pieces) -> ControlMessage {
                use ControlMessage as M;
                let request_id = pieces.number(0);
                let track_namespace = pieces.namespace();
                let namespace_prefix = pieces.namespace();
                let namespace_suffix = pieces.namespace();
                let track_name = pieces.name.clone();
                let parameters = pieces.parameters.clone();
                match pieces.kind % 18 {
                    12 => M::PublishNamespace(PublishNamespace {
                        request_id,
                        track_namespace,
                        parameters,
                    }),
                    13 => M::SubscribeNamespace(SubscribeNamespace {
                        request_id,
                        namespace_prefix,
                        parameters,
                    }),
                    14 => M::SubscribeTracks(SubscribeTracks {
                        request_id,
                        namespace_prefix,
                        parameters,
                    }),
                    15 => M::Namespace(Namespace { namespace_suffix }),
                    16 => M::NamespaceDone(NamespaceDone { namespace_suffix }),
                    _ => M::$skipped($skipped { namespace_suffix, track_name }),
                }
            }

            /// Reads a subgroup stream; returns the objects' numbers and payloads, and the stream
            /// written again.
            pub(in super::super) fn subgroup(
                mut bytes: &[u8],
            ) -> Result<ReadSubgroup, Refusal> {
                let header = SubgroupHeader::decode(&mut bytes)?;
                let mut reader = SubgroupObjectReader::new(&header);
                let mut writer = SubgroupObjectReader::new(&header);
                let mut out = Vec::new();
                header.encode(&mut out);
                let mut objects = Vec::new();
                while !bytes.is_empty() {
                    let object = reader.read_object(&mut bytes)?;
                    writer.write_object(&object, &mut out)?;
                    objects.push((object.object_id.into_inner(), object.payload));
                }
                Ok(ReadSubgroup { objects, again: out })
            }

            /// Reads a datagram; returns the object's number and payload, and it written again.
            pub(in super::super) fn datagram(
                mut bytes: &[u8],
            ) -> Result<ReadDatagram, Refusal> {
                let (header, payload) = DatagramHeader::decode_object(&mut bytes)?;
                let mut out = Vec::new();
                header.encode_checked(&mut out)?;
                out.extend_from_slice(&payload);
                Ok(ReadDatagram { object: header.object_id.into_inner(), again: out })
            }

            /// Reads a fetch stream of objects.
            pub(in super::super) fn fetch(
                is_ascending: bool,
                mut bytes: &[u8],
            ) -> Result<ReadFetch, Refusal> {
                let header = FetchHeader::decode(&mut bytes)?;
                let order =
                    if is_ascending { GroupOrder::Ascending } else { GroupOrder::Descending };
                let mut reader = FetchObjectReader::new(order);
                let mut objects = Vec::new();
                while !bytes.is_empty() {
                    let object = reader.read_object_header(&mut bytes)?;
                    if object.header.end_of_range().is_some() {
                        return Err(Refusal("marker".into()));
                    }
                    let length = usize::try_from(object.header.payload_length.into_inner());
                    let split = length.ok().and_then(|length| bytes.split_at_checked(length));
                    let Some((payload, rest)) = split else {
                        return Err(Refusal("payload is cut short".into()));
                    };
                    bytes = rest;
                    objects.push(FetchedObject {
                        group: object.group_id,
                        subgroup: object.subgroup_id,
                        object: object.object_id,
                        priority: object.publisher_priority,
                        payload: payload.to_vec(),
                    });
                }
                Ok(ReadFetch { request_id: header.request_id.into_inner(), objects })
            }
        }
    };
}

/// What only draft 18 has.
mod only_18 {
    use moqtap_codec::draft18::message::{Fetch, FetchPayload, FetchType, GoAway};

    use super::{Pieces, Summary};

    pub(super) fn goaway_summary(goaway: &GoAway, start: Summary) -> Summary {
        let start = start.string(&goaway.new_session_uri).number(goaway.timeout);
        match goaway.request_id {
            None => start,
            Some(request_id) => start.number(request_id),
        }
    }

    pub(super) fn goaway(pieces: &Pieces) -> GoAway {
        GoAway {
            new_session_uri: pieces.text.clone(),
            timeout: pieces.number(0),
            request_id: pieces.flag.then(|| pieces.number(1)),
        }
    }

    pub(super) fn fetch_summary(fetch: &Fetch, start: Summary) -> Summary {
        let start = start.number(fetch.request_id);
        let start = match &fetch.fetch_payload {
            FetchPayload::Standalone {
                track_namespace,
                track_name,
                start_group,
                start_object,
                end_group,
                end_object,
            } => start
                .namespace(track_namespace)
                .string(track_name)
                .number(*start_group)
                .number(*start_object)
                .number(*end_group)
                .number(*end_object),
            FetchPayload::Joining { joining_request_id, joining_start } => {
                start.number(*joining_request_id).number(*joining_start)
            }
        };
        start.parameters(&fetch.parameters)
    }

    pub(super) fn fetch(pieces: &Pieces) -> Fetch {
        let (fetch_type, fetch_payload) = if pieces.flag {
            let standalone = FetchPayload::Standalone {
                track_namespace: pieces.namespace(),
                track_name: pieces.name.clone(),
                start_group: pieces.number(1),
                start_object: pieces.number(2),
                end_group: pieces.number(3),
                end_object: pieces.number(0),
            };
            (FetchType::Standalone, standalone)
        } else {
            let joining = FetchPayload::Joining {
                joining_request_id: pieces.number(1),
                joining_start: pieces.number(2),
            };
            (FetchType::AbsoluteJoining, joining)
        };
        let request_id = pieces.number(0);
        Fetch { request_id, fetch_type, fetch_payload, parameters: pieces.parameters.clone() }
    }
}

/// What only draft 22 has, of the two.
mod only_22 {
    use moqtap_codec::draft22::message::{Fetch, GoAway};

    use super::{Pieces, Summary};

    pub(super) fn goaway_summary(goaway: &GoAway, start: Summary) -> Summary {
        start.string(&goaway.new_session_uri).number(goaway.timeout)
    }

    pub(super) fn goaway(pieces: &Pieces) -> GoAway {
        GoAway { new_session_uri: pieces.text.clone(), timeout: pieces.number(0) }
    }

    pub(super) fn fetch_summary(fetch: &Fetch, start: Summary) -> Summary {
        start
            .number(fetch.request_id)
            .namespace(&fetch.track_namespace)
            .string(&fetch.track_name)
            .parameters(&fetch.parameters)
    }

    pub(super) fn fetch(pieces: &Pieces) -> Fetch {
        Fetch {
            request_id: pieces.number(0),
            track_namespace: pieces.namespace(),
            track_name: pieces.name.clone(),
            parameters: pieces.parameters.clone(),
        }
    }
}

peer!(draft18, PublishBlocked, only_18);
peer!(draft22, PublishSkipped, only_22, PublishStateNotify);

pub(super) fn accepts(version: Version, bytes: &[u8]) -> Result<(), Refusal> {
    if version == Version::Draft18 { draft18::accepts(bytes) } else { draft22::accepts(bytes) }
}

pub(super) fn reencode(version: Version, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    if version == Version::Draft18 { draft18::reencode(bytes) } else { draft22::reencode(bytes) }
}

pub(super) fn summary(version: Version, bytes: &[u8]) -> Result<Summary, Refusal> {
    if version == Version::Draft18 { draft18::summary(bytes) } else { draft22::summary(bytes) }
}

pub(super) fn build(version: Version, pieces: &Pieces) -> Option<Vec<u8>> {
    if version == Version::Draft18 { draft18::build(pieces) } else { draft22::build(pieces) }
}

pub(super) fn subgroup(version: Version, bytes: &[u8]) -> Result<ReadSubgroup, Refusal> {
    if version == Version::Draft18 { draft18::subgroup(bytes) } else { draft22::subgroup(bytes) }
}

pub(super) fn datagram(version: Version, bytes: &[u8]) -> Result<ReadDatagram, Refusal> {
    if version == Version::Draft18 { draft18::datagram(bytes) } else { draft22::datagram(bytes) }
}

pub(super) fn fetch(
    version: Version,
    is_ascending: bool,
    bytes: &[u8],
) -> Result<ReadFetch, Refusal> {
    if version == Version::Draft18 {
        draft18::fetch(is_ascending, bytes)
    } else {
        draft22::fetch(is_ascending, bytes)
    }
}

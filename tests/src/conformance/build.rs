//! Messages and data that cases send.

use std::sync::atomic::{AtomicU64, Ordering};

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode},
        id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
        location::Location,
        message::{
            Fetch, FetchOk, FetchTarget, Goaway, Message, Publish, PublishDone, PublishNamespace,
            Reason, RequestError, RequestOk, RequestUpdate, Subscribe, SubscribeNamespace,
            SubscribeOk, SubscribeTracks, TrackStatus,
        },
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
        stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
        varint,
    },
};
use bytes::{BufMut as _, Bytes, BytesMut};

static NAMES: AtomicU64 = AtomicU64::new(0);

/// A first namespace field that no other case, run or program uses.
pub(super) fn unique() -> String {
    let mut random = [0; 8];
    // Without randomness the counter alone still keeps this run's names apart.
    drop(boring::rand::rand_bytes(&mut random));
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("aip-conformance-{:016x}-{number}", u64::from_be_bytes(random))
}

/// The namespace of these fields, which cases choose well.
pub(super) fn namespace<F: AsRef<[u8]>>(fields: &[F]) -> TrackNamespace {
    TrackNamespace::new(fields).expect("a case's namespace is within the limits")
}

pub(super) fn track(namespace: &TrackNamespace, name: &str) -> FullTrackName {
    FullTrackName::new(namespace.clone(), Bytes::from(name.to_owned()))
        .expect("a case's track name is within the limits")
}

/// A track that nobody publishes.
pub(super) fn nobodys_track() -> FullTrackName {
    track(&namespace(&[unique()]), "nobodys")
}

pub(super) const fn none() -> Parameters {
    Parameters::new()
}

pub(super) fn with(parameter: Parameter) -> Parameters {
    Parameters::new().with(parameter)
}

pub(super) fn subscribe(
    request_id: RequestId,
    track: &FullTrackName,
    parameters: Parameters,
) -> Message {
    Message::Subscribe(Subscribe { request_id, track: track.clone(), parameters })
}

pub(super) fn subscribe_ok(alias: u64, parameters: Parameters) -> Message {
    subscribe_ok_with(alias, parameters, Properties::empty())
}

pub(super) fn subscribe_ok_with(
    alias: u64,
    parameters: Parameters,
    properties: Properties,
) -> Message {
    Message::SubscribeOk(SubscribeOk { track_alias: TrackAlias(alias), parameters, properties })
}

pub(super) fn publish(request_id: RequestId, track: &FullTrackName, alias: u64) -> Message {
    publish_with(request_id, track, alias, none(), Properties::empty())
}

pub(super) fn publish_with(
    request_id: RequestId,
    track: &FullTrackName,
    alias: u64,
    parameters: Parameters,
    properties: Properties,
) -> Message {
    let track_alias = TrackAlias(alias);
    Message::Publish(Publish {
        request_id,
        track: track.clone(),
        track_alias,
        parameters,
        properties,
    })
}

pub(super) fn publish_done(code: PublishDoneCode, stream_count: Option<u64>) -> Message {
    Message::PublishDone(PublishDone { code, stream_count, reason: Reason::new("done") })
}

pub(super) fn track_status(request_id: RequestId, track: &FullTrackName) -> Message {
    Message::TrackStatus(TrackStatus { request_id, track: track.clone(), parameters: none() })
}

pub(super) fn publish_namespace(request_id: RequestId, namespace: &TrackNamespace) -> Message {
    let namespace = namespace.clone();
    Message::PublishNamespace(PublishNamespace { request_id, namespace, parameters: none() })
}

pub(super) fn subscribe_namespace(request_id: RequestId, prefix: &TrackNamespace) -> Message {
    let prefix = prefix.clone();
    Message::SubscribeNamespace(SubscribeNamespace { request_id, prefix, parameters: none() })
}

pub(super) fn subscribe_tracks(
    request_id: RequestId,
    prefix: &TrackNamespace,
    parameters: Parameters,
) -> Message {
    let prefix = prefix.clone();
    Message::SubscribeTracks(SubscribeTracks { request_id, prefix, parameters })
}

pub(super) fn request_ok() -> Message {
    Message::RequestOk(RequestOk::default())
}

pub(super) fn request_error(code: RequestCode) -> Message {
    Message::RequestError(RequestError {
        code,
        retry_interval: 0,
        reason: Reason::new("refused by a test"),
        redirect: None,
    })
}

pub(super) fn update(request_id: RequestId, parameters: Parameters) -> Message {
    Message::RequestUpdate(RequestUpdate { request_id, parameters })
}

/// A FETCH of `start` to `end`, inclusive, as the draft has it.
pub(super) fn fetch(
    version: Version,
    request_id: RequestId,
    track: &FullTrackName,
    start: Location,
    end: Location,
    parameters: Parameters,
) -> Message {
    if version < Version::Draft20 {
        let end = Location::new(end.group.0, end.object.0 + 1);
        let target = FetchTarget::Standalone { track: track.clone(), start, end };
        return Message::Fetch(Fetch { request_id, target, parameters });
    }
    let range = aip_codec::moqt::filter::LocationFilter::Range { start, end };
    let parameters = parameters.with(Parameter::LocationFilter(range));
    Message::Fetch(Fetch { request_id, target: FetchTarget::Track(track.clone()), parameters })
}

/// A FETCH_OK whose last location is `end`, inclusive, as the draft has it.
pub(super) fn fetch_ok(version: Version, end: Location, end_of_track: bool) -> Message {
    let end =
        if version < Version::Draft20 { Location::new(end.group.0, end.object.0 + 1) } else { end };
    let properties = Properties::empty();
    Message::FetchOk(FetchOk { end_of_track, end, parameters: none(), properties })
}

/// The last location of a FETCH_OK, inclusive; `None` for a whole group.
pub(super) fn fetch_ok_end(version: Version, ok: &FetchOk) -> Option<Location> {
    if Version::Draft20 <= version {
        return Some(ok.end);
    }
    ok.end.object.0.checked_sub(1).map(|object| Location::new(ok.end.group.0, object))
}

/// A subgroup stream under construction.
pub(super) struct Subgroup {
    pub(super) header: SubgroupHeader,
    encoder: Encoder,
    pub(super) bytes: BytesMut,
}

impl Subgroup {
    /// Subgroup `subgroup` of `group`, priority 128, without properties.
    pub(super) fn new(alias: u64, group: u64, subgroup: u64) -> Self {
        Self::with(SubgroupHeader {
            track_alias: TrackAlias(alias),
            group: GroupId(group),
            subgroup: SubgroupMode::Explicit(SubgroupId(subgroup)),
            priority: Some(128),
            properties: false,
            end_of_group: false,
            first_object: true,
        })
    }

    pub(super) fn with(header: SubgroupHeader) -> Self {
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        Self { header, encoder: Encoder::new(header.properties), bytes }
    }

    pub(super) fn object(self, object: u64, payload: &[u8]) -> Self {
        self.object_with(object, payload, Properties::empty())
    }

    pub(super) fn object_with(
        mut self,
        object: u64,
        payload: &[u8],
        properties: Properties,
    ) -> Self {
        let header = ObjectHeader {
            object: ObjectId(object),
            properties,
            payload_length: payload.len() as u64,
            status: ObjectStatus::Normal,
        };
        self.encoder.object(&header, &mut self.bytes).expect("a case's objects ascend");
        self.bytes.put_slice(payload);
        self
    }

    pub(super) fn status(mut self, object: u64, status: ObjectStatus) -> Self {
        let header = ObjectHeader {
            object: ObjectId(object),
            properties: Properties::empty(),
            payload_length: 0,
            status,
        };
        self.encoder.object(&header, &mut self.bytes).expect("a case's objects ascend");
        self
    }

    /// Takes what was built since the last time.
    pub(super) fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

/// Bytes out of hexadecimal digits; spaces are ignored.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|character| character.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).unwrap_or(0))
        .collect()
}

pub(super) fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(value, &mut out);
    out
}

/// `value` in nine bytes, however small it is.
pub(super) fn wide(value: u64) -> Vec<u8> {
    [&[0xff][..], &value.to_be_bytes()].concat()
}

/// A control message whose type is nine bytes.
pub(super) fn wide_frame(code: u64, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a case's body fits its length field");
    [&wide(code)[..], &length.to_be_bytes(), body].concat()
}

/// A control message of any type with any body.
pub(super) fn frame(code: u64, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a case's body fits its length field");
    framed_as(code, length, body)
}

/// A control message that says it has `length` bytes.
pub(super) fn framed_as(code: u64, length: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = varint(code);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

pub(super) const fn at(group: u64, object: u64) -> Location {
    Location::new(group, object)
}

/// A GOAWAY; on draft 18's control stream it says which request of the relay's it has not seen.
pub(super) fn goaway(version: Version, uri: &str, on_control: bool) -> Message {
    let request_id = (version == Version::Draft18 && on_control).then_some(RequestId(1));
    Message::Goaway(Goaway { uri: Bytes::from(uri.to_owned()), timeout: 0, request_id })
}

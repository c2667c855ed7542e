//! PUBLISH, PUBLISH_DONE, PUBLISH_STATE_NOTIFY (draft-22 sections 9.8 to 9.10).

use bytes::{BufMut as _, BytesMut};

use super::{MessageType, reason::Reason};
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{
        error_code::PublishDoneCode,
        id::{RequestId, TrackAlias},
        name::FullTrackName,
        parameter::Parameters,
        property::Properties,
        varint,
        version::Version,
    },
};

/// The sender offers a track's objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish {
    /// The request's number.
    pub request_id: RequestId,
    /// The track.
    pub track: FullTrackName,
    /// What the track is called on data streams and in datagrams of this session.
    pub track_alias: TrackAlias,
    /// How it is offered.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

impl Publish {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            track: FullTrackName::decode(body)?,
            track_alias: TrackAlias(body.varint()?),
            parameters: Parameters::decode(body, version, MessageType::Publish)?,
            properties: Properties::decode(body.rest())?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.track.encode(out);
        varint::encode(self.track_alias.0, out);
        self.parameters.encode(version, MessageType::Publish, out)?;
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }
}

/// A subscription has ended: nothing more of it will come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishDone {
    /// Why.
    pub code: PublishDoneCode,
    /// Data streams opened for the subscription, empty ones and fills too; `None` is unknown.
    pub stream_count: Option<u64>,
    /// Why, for people.
    pub reason: Reason,
}

/// The Stream Count that says: unknown.
const fn stream_count_unknown(version: Version) -> u64 {
    match version {
        Version::Draft18 | Version::Draft19 => (1 << 62) - 1,
        Version::Draft20 | Version::Draft21 | Version::Draft22 => u64::MAX,
    }
}

impl PublishDone {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let code = PublishDoneCode(body.varint()?);
        let stream_count = body.varint()?;
        Ok(Self {
            code,
            stream_count: (stream_count != stream_count_unknown(version)).then_some(stream_count),
            reason: Reason::decode(body)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        varint::encode(self.code.0, out);
        let unknown = stream_count_unknown(version);
        varint::encode(self.stream_count.unwrap_or(unknown), out);
        self.reason.encode(out);
    }
}

/// The publisher's view of a subscription has changed. Drafts 20 and later.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishStateNotify {
    /// LARGEST_OBJECT, FORWARD, LOCATION_FILTER.
    pub parameters: Parameters,
}

impl PublishStateNotify {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let parameters = Parameters::decode(body, version, MessageType::PublishStateNotify)?;
        Ok(Self { parameters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.parameters.encode(version, MessageType::PublishStateNotify, out)
    }
}

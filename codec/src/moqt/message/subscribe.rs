//! SUBSCRIBE and SUBSCRIBE_OK (draft-22 sections 9.6 and 9.7).

use bytes::{BufMut as _, BytesMut};

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{
        id::{RequestId, TrackAlias},
        name::FullTrackName,
        parameter::Parameters,
        property::Properties,
        varint,
        version::Version,
    },
};

/// The sender wants a track's objects as they come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribe {
    /// The request's number.
    pub request_id: RequestId,
    /// The track.
    pub track: FullTrackName,
    /// What of it, and how.
    pub parameters: Parameters,
}

impl Subscribe {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            track: FullTrackName::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::Subscribe)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.track.encode(out);
        self.parameters.encode(version, MessageType::Subscribe, out)
    }
}

/// The answer to SUBSCRIBE: objects may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeOk {
    /// What the track is called on data streams and in datagrams of this session.
    pub track_alias: TrackAlias,
    /// EXPIRES and LARGEST_OBJECT.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

impl SubscribeOk {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            track_alias: TrackAlias(body.varint()?),
            parameters: Parameters::decode(body, version, MessageType::SubscribeOk)?,
            properties: Properties::decode(body.rest())?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.track_alias.0, out);
        self.parameters.encode(version, MessageType::SubscribeOk, out)?;
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }
}

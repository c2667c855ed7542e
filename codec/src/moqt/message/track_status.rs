//! TRACK_STATUS (draft-22 section 9.13).

use bytes::BytesMut;

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{id::RequestId, name::FullTrackName, parameter::Parameters, varint, version::Version},
};

/// The sender wants to know what SUBSCRIBE would answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrackStatus {
    /// The request's number.
    pub request_id: RequestId,
    /// The track.
    pub track: FullTrackName,
    /// AUTHORIZATION_TOKEN and INCLUDE_PROPERTIES.
    pub parameters: Parameters,
}

impl TrackStatus {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            track: FullTrackName::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::TrackStatus)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.track.encode(out);
        self.parameters.encode(version, MessageType::TrackStatus, out)
    }
}

//! SUBSCRIBE_TRACKS and PUBLISH_SKIPPED (draft-22 sections 9.18 and 9.19).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{
        id::RequestId,
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        varint,
        version::Version,
    },
};

/// The sender wants PUBLISH for tracks as they appear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeTracks {
    /// The request's number.
    pub request_id: RequestId,
    /// What their namespaces begin with; no field is all of them.
    pub prefix: TrackNamespace,
    /// What of them, and how.
    pub parameters: Parameters,
}

impl SubscribeTracks {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            prefix: TrackNamespace::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::SubscribeTracks)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.prefix.encode(out);
        self.parameters.encode(version, MessageType::SubscribeTracks, out)
    }
}

/// There is a matching track, but no PUBLISH for it will come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishSkipped {
    /// Its namespace's fields after the prefix subscribed to; may be none.
    pub suffix: TrackNamespace,
    /// Its name.
    pub name: Bytes,
}

impl PublishSkipped {
    pub(super) fn decode(body: &mut Cursor) -> Result<Self, DecodeError> {
        let (suffix, name) = FullTrackName::decode(body)?.into_parts();
        Ok(Self { suffix, name })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        self.suffix.encode(out);
        varint::encode(self.name.len() as u64, out);
        out.put_slice(&self.name);
    }
}

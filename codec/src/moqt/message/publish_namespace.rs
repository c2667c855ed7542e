//! PUBLISH_NAMESPACE (draft-22 section 9.14).

use bytes::BytesMut;

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{id::RequestId, name::TrackNamespace, parameter::Parameters, varint, version::Version},
};

/// The sender has tracks under a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishNamespace {
    /// The request's number.
    pub request_id: RequestId,
    /// What every such track's namespace begins with.
    pub namespace: TrackNamespace,
    /// AUTHORIZATION_TOKEN.
    pub parameters: Parameters,
}

impl PublishNamespace {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            namespace: TrackNamespace::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::PublishNamespace)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.namespace.encode(out);
        self.parameters.encode(version, MessageType::PublishNamespace, out)
    }
}

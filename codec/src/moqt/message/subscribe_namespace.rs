//! SUBSCRIBE_NAMESPACE, NAMESPACE, NAMESPACE_DONE (draft-22 sections 9.15 to 9.17).

use bytes::BytesMut;

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
    moqt::{id::RequestId, name::TrackNamespace, parameter::Parameters, varint, version::Version},
};

/// The sender wants to hear of namespaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeNamespace {
    /// The request's number.
    pub request_id: RequestId,
    /// What they begin with; no field is all of them.
    pub prefix: TrackNamespace,
    /// AUTHORIZATION_TOKEN.
    pub parameters: Parameters,
}

impl SubscribeNamespace {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            prefix: TrackNamespace::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::SubscribeNamespace)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.prefix.encode(out);
        self.parameters.encode(version, MessageType::SubscribeNamespace, out)
    }
}

/// There is a namespace. Between relays that have both told RELAY_ID it may come again, with other
/// parameters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespace {
    /// Its fields after the prefix subscribed to; may be none.
    pub suffix: TrackNamespace,
    /// HOPS and COST, AIP's: the draft has no parameters here, so that there is no block if there
    /// is no parameter.
    pub parameters: Parameters,
}

impl Namespace {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let suffix = TrackNamespace::decode(body)?;
        if body.is_empty() {
            return Ok(Self { suffix, parameters: Parameters::new() });
        }
        // Whatever is no such block is what the draft says of bytes behind the suffix.
        match Parameters::decode(body, version, MessageType::Namespace) {
            Ok(parameters) if !parameters.is_empty() => Ok(Self { suffix, parameters }),
            Ok(_) | Err(_) => Err(Violation::TrailingBytes.into()),
        }
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.suffix.encode(out);
        if self.parameters.is_empty() {
            return Ok(());
        }
        self.parameters.encode(version, MessageType::Namespace, out)
    }
}

/// There is a namespace no more.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamespaceDone {
    /// Its fields after the prefix subscribed to; may be none.
    pub suffix: TrackNamespace,
}

impl NamespaceDone {
    pub(super) fn decode(body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self { suffix: TrackNamespace::decode(body)? })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        self.suffix.encode(out);
    }
}

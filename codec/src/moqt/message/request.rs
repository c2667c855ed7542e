//! REQUEST_OK, REQUEST_ERROR, REQUEST_UPDATE (draft-22 sections 9.3 to 9.5): what every kind of
//! request shares.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{MessageType, reason::Reason};
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{
        error_code::RequestCode,
        id::RequestId,
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
        varint,
        version::Version,
    },
};

/// A request, or an update of one, is accepted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestOk {
    /// Any of those that an answer may have; which depends on the request.
    pub parameters: Parameters,
    /// The track's properties; only in the answer to TRACK_STATUS.
    pub properties: Properties,
}

impl RequestOk {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let parameters = Parameters::decode(body, version, MessageType::RequestOk)?;
        Ok(Self { parameters, properties: Properties::decode(body.rest())? })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.parameters.encode(version, MessageType::RequestOk, out)?;
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }
}

/// A request, or an update of one, is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestError {
    /// Why.
    pub code: RequestCode,
    /// 0: never again; n: not before n - 1 milliseconds.
    pub retry_interval: u64,
    /// Why, for people.
    pub reason: Reason,
    /// Where to ask instead; there if and only if the code is REDIRECT.
    pub redirect: Option<Redirect>,
}

/// Where to ask instead.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redirect {
    /// The server; empty is this one, and the only value a client may send.
    pub uri: Bytes,
    /// The namespace to ask for.
    pub namespace: TrackNamespace,
    /// The track to ask for; empty for requests about namespaces.
    pub name: Bytes,
}

impl RequestError {
    pub(super) fn decode(body: &mut Cursor) -> Result<Self, DecodeError> {
        let code = RequestCode(body.varint()?);
        let retry_interval = body.varint()?;
        let reason = Reason::decode(body)?;
        let redirect = if code == RequestCode::REDIRECT {
            let uri = body.length_prefixed()?;
            let (namespace, name) = FullTrackName::decode(body)?.into_parts();
            Some(Redirect { uri, namespace, name })
        } else {
            None
        };
        Ok(Self { code, retry_interval, reason, redirect })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.code.0, out);
        varint::encode(self.retry_interval, out);
        self.reason.encode(out);
        match &self.redirect {
            None if self.code != RequestCode::REDIRECT => Ok(()),
            Some(redirect) if self.code == RequestCode::REDIRECT => {
                varint::encode(redirect.uri.len() as u64, out);
                out.put_slice(&redirect.uri);
                redirect.namespace.encode(out);
                varint::encode(redirect.name.len() as u64, out);
                out.put_slice(&redirect.name);
                Ok(())
            }
            None | Some(_) => Err(EncodeError::OutOfRange("redirect")),
        }
    }
}

/// A change to a request's parameters. What it leaves out stays as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestUpdate {
    /// The update's own number.
    pub request_id: RequestId,
    /// What changes.
    pub parameters: Parameters,
}

impl RequestUpdate {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            parameters: Parameters::decode(body, version, MessageType::RequestUpdate)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.parameters.encode(version, MessageType::RequestUpdate, out)
    }
}

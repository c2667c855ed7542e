//! GOAWAY (draft-22 section 9.2): a session, or one request, has to move.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
    moqt::{id::RequestId, varint, version::Version},
};

/// Bytes that the new session's URI may have.
pub const GOAWAY_URI_LENGTH_MAX: usize = 8192;

/// The sender is about to leave.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Goaway {
    /// Where to go; empty is the same place, and the only value a client may send.
    pub uri: Bytes,
    /// Milliseconds until the sender acts by itself; 0 states none.
    pub timeout: u64,
    /// The smallest request of the peer's that the sender has not taken up. Only in draft 18, and
    /// there only on the control stream: whether it has its place is the session's to check.
    pub request_id: Option<RequestId>,
}

impl Goaway {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let length = body.varint()?;
        if (GOAWAY_URI_LENGTH_MAX as u64) < length {
            return Err(Violation::GoawayUriTooLong.into());
        }
        let uri = body.bytes(length)?;
        let timeout = body.varint()?;
        let request_id = if version == Version::Draft18 && !body.is_empty() {
            Some(RequestId(body.varint()?))
        } else {
            None
        };
        Ok(Self { uri, timeout, request_id })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if GOAWAY_URI_LENGTH_MAX < self.uri.len() {
            return Err(EncodeError::TooLong("new session URI"));
        }
        varint::encode(self.uri.len() as u64, out);
        out.put_slice(&self.uri);
        varint::encode(self.timeout, out);
        match self.request_id {
            None => Ok(()),
            Some(request_id) if version == Version::Draft18 => {
                varint::encode(request_id.0, out);
                Ok(())
            }
            Some(_) => Err(EncodeError::Unsupported("GOAWAY's request ID")),
        }
    }
}

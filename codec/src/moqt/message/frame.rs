//! Messages out of a stream (draft-22 section 9): type, 16-bit length, body.

use std::ops::Range;

use bytes::Bytes;

use super::MessageType;
use crate::{
    assembly::{Inbox, Scan, Shortfall},
    error::{DecodeError, Violation},
    moqt::version::Version,
};

/// A message still encoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Which message.
    pub kind: MessageType,
    /// Its body, for [`super::Message::decode`].
    pub body: Bytes,
}

/// Reads a control or request stream chunk by chunk. A frame in one chunk is a slice of it; others
/// are put together in a buffer that grows with what arrives, to 65,546 bytes at most.
#[derive(Debug)]
pub struct FrameDecoder {
    version: Version,
    inbox: Inbox,
}

impl FrameDecoder {
    /// A decoder at a stream's first byte.
    pub fn new(version: Version) -> Self {
        Self { version, inbox: Inbox::default() }
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.inbox.push(chunk);
    }

    /// The next frame; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If a message's type is unknown, as soon as that is read. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Frame>, DecodeError> {
        let version = self.version;
        let Some(head) = self.inbox.poll_header(|scan| parse(version, scan))? else {
            return Ok(None);
        };
        let ((kind, body), wire) = self.inbox.take_head(head);
        Ok(Some(Frame { kind, body: wire.slice(body) }))
    }

    /// Whether no byte is held that `poll` has not returned: at FIN, whether the stream ends
    /// between messages.
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// The bytes pushed that `poll` has not returned; none are left. What follows CALL is no
    /// frame.
    pub fn take_remainder(&mut self) -> Bytes {
        self.inbox.take_all()
    }

    /// The bytes pushed that `poll` has not returned.
    pub fn into_remainder(mut self) -> Bytes {
        self.take_remainder()
    }
}

/// A frame's type, and where its body lies.
fn parse(version: Version, scan: &mut Scan<'_>) -> Result<(MessageType, Range<usize>), Shortfall> {
    let kind = MessageType::from_code(version, scan.varint()?)
        .map_err(|_| Violation::UnknownMessageType)?;
    let length = u16::from_be_bytes([scan.u8()?, scan.u8()?]);
    Ok((kind, scan.bytes(u64::from(length))?))
}

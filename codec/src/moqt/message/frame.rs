//! Messages out of a stream (draft-22 section 9): type, 16-bit length, body.

use bytes::Bytes;

use super::MessageType;
use crate::{error::DecodeError, moqt::version::Version};

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
}

impl FrameDecoder {
    /// A decoder at a stream's first byte.
    pub const fn new(version: Version) -> Self {
        Self { version }
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.version = Version::Draft22;
        todo!("{chunk:?}")
    }

    /// The next frame; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If a message's type is unknown, as soon as that is read. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Frame>, DecodeError> {
        self.version = Version::Draft22;
        todo!()
    }

    /// Whether no byte is held that `poll` has not returned: at FIN, whether the stream ends
    /// between messages.
    pub const fn is_empty(&self) -> bool {
        true
    }

    /// The bytes pushed that `poll` has not returned; none are left. What follows CALL is no
    /// frame.
    pub fn take_remainder(&mut self) -> Bytes {
        self.version = Version::Draft22;
        todo!()
    }

    /// The bytes pushed that `poll` has not returned.
    pub fn into_remainder(mut self) -> Bytes {
        self.take_remainder()
    }
}

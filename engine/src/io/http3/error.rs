//! What ends an HTTP/3 connection or stream.

/// An error code of HTTP/3 (RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5.2, and
/// those of WebTransport over HTTP/3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) struct Code(pub(in crate::io) u64);

impl Code {
    pub(in crate::io) const DATAGRAM_ERROR: Self = Self(0x33);
    pub(in crate::io) const NO_ERROR: Self = Self(0x100);
    pub(in crate::io) const STREAM_CREATION_ERROR: Self = Self(0x103);
    pub(in crate::io) const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    pub(in crate::io) const FRAME_UNEXPECTED: Self = Self(0x105);
    pub(in crate::io) const FRAME_ERROR: Self = Self(0x106);
    pub(in crate::io) const EXCESSIVE_LOAD: Self = Self(0x107);
    pub(in crate::io) const ID_ERROR: Self = Self(0x108);
    pub(in crate::io) const SETTINGS_ERROR: Self = Self(0x109);
    pub(in crate::io) const MISSING_SETTINGS: Self = Self(0x10a);
    pub(in crate::io) const REQUEST_REJECTED: Self = Self(0x10b);
    pub(in crate::io) const REQUEST_INCOMPLETE: Self = Self(0x10d);
    pub(in crate::io) const MESSAGE_ERROR: Self = Self(0x10e);
    pub(in crate::io) const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    pub(in crate::io) const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    pub(in crate::io) const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);
    /// A stream came before its session, and there was no room to keep it.
    pub(in crate::io) const BUFFERED_STREAM_REJECTED: Self = Self(0x3994_bd84);
}

/// A peer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) enum Fault {
    /// It ends the connection.
    Connection(Code, &'static str),
    /// It ends the request's stream.
    Stream(Code, &'static str),
}

#[cfg(test)]
impl Fault {
    /// Its code.
    pub(in crate::io) const fn code(self) -> Code {
        match self {
            Self::Connection(code, _) | Self::Stream(code, _) => code,
        }
    }
}

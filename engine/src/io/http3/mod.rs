//! As much of HTTP/3 as a WebTransport session needs (RFC 9114, 9204, 9220, 9297): control and QPACK
//! streams, request streams, header lists. It knows no socket and no quiche connection.
//!
//! There is no dynamic table: neither side may refer to one, so no stream ever waits for another.

mod control;
mod error;
mod fields;
mod frame;
mod integer;
mod qpack_stream;
mod settings;

pub(super) use self::{
    control::Control,
    error::{Code, Fault},
    fields::{Fields, request_head, response_head, status_head},
    frame::{Frame, FrameReader, Place, data_header},
    integer::{decode, encode},
    qpack_stream::QpackStream,
    settings::settings_frame,
};

/// The types of unidirectional streams.
pub(super) mod stream_type {
    /// The control stream.
    pub(in crate::io) const CONTROL: u64 = 0x0;
    /// A push stream, which only servers may open, if they were allowed to.
    pub(in crate::io) const PUSH: u64 = 0x1;
    /// QPACK's encoder stream.
    pub(in crate::io) const QPACK_ENCODER: u64 = 0x2;
    /// QPACK's decoder stream.
    pub(in crate::io) const QPACK_DECODER: u64 = 0x3;
}

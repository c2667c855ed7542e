//! QPACK's encoder and decoder streams, which have nothing to say: there is no dynamic table
//! (RFC 9204 section 4).

use super::error::{Code, Fault};

/// One of the peer's two streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) enum QpackStream {
    /// What it would insert into our table.
    Encoder,
    /// What it acknowledges of what we inserted; `inside`: a number goes on.
    Decoder {
        /// Whether the number of a cancelled stream has begun.
        inside: bool,
    },
}

impl QpackStream {
    /// Reads what came.
    ///
    /// # Errors
    /// If it is about a dynamic table.
    pub(in crate::io) fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for &byte in bytes {
            match self {
                // Set Dynamic Table Capacity to 0 is all that a table of no bytes allows.
                Self::Encoder if byte == 0x20 => {}
                Self::Encoder => {
                    let what = "a dynamic table, of which there is none";
                    return Err(Fault::Connection(Code::QPACK_ENCODER_STREAM_ERROR, what));
                }
                Self::Decoder { inside: true } => {
                    *self = Self::Decoder { inside: byte & 0x80 != 0 };
                }
                // Stream Cancellation: a stream's number, in as many bytes as it needs.
                Self::Decoder { .. } if byte & 0xc0 == 0x40 => {
                    *self = Self::Decoder { inside: byte & 0x3f == 0x3f };
                }
                Self::Decoder { .. } => {
                    let what = "what was never inserted is acknowledged";
                    return Err(Fault::Connection(Code::QPACK_DECODER_STREAM_ERROR, what));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mut stream: QpackStream, bytes: &[u8], expected: Result<(), Code>) {
        let came = stream.receive(bytes).map_err(Fault::code);
        assert_eq!(came, expected, "{stream:?} {bytes:02x?}");
    }

    #[test]
    fn there_is_no_dynamic_table() {
        let wrong = Err(Code::QPACK_ENCODER_STREAM_ERROR);
        check(QpackStream::Encoder, &[0x20, 0x20], Ok(()));
        // A capacity; an insertion by name, by literal; a duplicate.
        for bytes in [&[0x21][..], &[0x3f, 0xe1, 0x7f], &[0xc0, 0], &[0x40, 0], &[0x00]] {
            check(QpackStream::Encoder, bytes, wrong);
        }
    }

    #[test]
    fn cancelled_streams_are_all_that_is_acknowledged() {
        let wrong = Err(Code::QPACK_DECODER_STREAM_ERROR);
        let decoder = QpackStream::Decoder { inside: false };
        check(decoder, &[0x44, 0x7f, 0x80, 0x01, 0x40], Ok(()));
        // Insert Count Increment of 0 and 1, Section Acknowledgment.
        for bytes in [&[0x00][..], &[0x01], &[0x80], &[0x44, 0x84]] {
            check(decoder, bytes, wrong);
        }
    }
}

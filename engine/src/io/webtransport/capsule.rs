//! Capsules on a session's CONNECT stream (RFC 9297 section 3.2).

use bytes::{Buf as _, Bytes, BytesMut};

use crate::io::http3::{self, Code, Fault};

/// A peer closes its session.
const CLOSE_SESSION: u64 = 0x2843;
/// Bytes of a reason at most.
const REASON_MAX: usize = 1_024;
/// The longest type and length.
const HEAD_MAX: usize = 16;

/// That a session is closed, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Close {
    pub(super) code: u32,
    pub(super) reason: Bytes,
}

#[derive(Debug)]
enum State {
    Head,
    Close { length: usize },
    Skip { left: u64 },
}

/// Reads capsules out of DATA. Those of no meaning to us are skipped, DRAIN_WEBTRANSPORT_SESSION
/// among them: MOQT has GOAWAY.
#[derive(Debug)]
pub(super) struct CapsuleReader {
    state: State,
    held: BytesMut,
}

impl CapsuleReader {
    pub(super) fn new() -> Self {
        Self { state: State::Head, held: BytesMut::new() }
    }

    /// Reads what came; says how the session was closed, if it was.
    ///
    /// # Errors
    /// If something follows the close, or it is none.
    pub(super) fn receive(&mut self, mut bytes: Bytes) -> Result<Option<Close>, Fault> {
        let wrong = |what| Fault::Stream(Code::MESSAGE_ERROR, what);
        loop {
            match &mut self.state {
                State::Head => {
                    let before = self.held.len();
                    let room = (HEAD_MAX - before).min(bytes.len());
                    self.held.extend_from_slice(&bytes[..room]);
                    let Some((kind, length, size)) = head(&self.held) else { return Ok(None) };
                    self.held.clear();
                    bytes.advance(size - before);
                    self.state = match usize::try_from(length) {
                        Ok(length @ 4..) if kind == CLOSE_SESSION && length <= 4 + REASON_MAX => {
                            State::Close { length }
                        }
                        _ if kind == CLOSE_SESSION => return Err(wrong("a close of no length")),
                        _ => State::Skip { left: length },
                    };
                }
                State::Skip { left } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.advance(length);
                    *left -= length as u64;
                    if *left != 0 {
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Close { length } => {
                    let missing = (*length - self.held.len()).min(bytes.len());
                    self.held.extend_from_slice(&bytes.split_to(missing));
                    if self.held.len() < *length {
                        return Ok(None);
                    }
                    if !bytes.is_empty() {
                        return Err(wrong("a capsule behind the close"));
                    }
                    let mut held = self.held.split().freeze();
                    let code = held.get_u32();
                    return Ok(Some(Close { code, reason: held }));
                }
            }
        }
    }
}

fn head(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, first) = http3::decode(bytes)?;
    let (length, second) = http3::decode(&bytes[first..])?;
    Some((kind, length, first + second))
}

/// A DATA frame with the capsule that closes a session. Of the reason, 1,024 bytes at most are said,
/// and no half character.
pub(super) fn close(code: u32, reason: &str) -> Bytes {
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_MAX)];
    let mut capsule = Vec::with_capacity(HEAD_MAX + 4 + reason.len());
    http3::encode(CLOSE_SESSION, &mut capsule);
    http3::encode((4 + reason.len()) as u64, &mut capsule);
    capsule.extend(code.to_be_bytes());
    capsule.extend_from_slice(reason);
    let mut out = Vec::with_capacity(HEAD_MAX + capsule.len());
    http3::data_header(capsule.len(), &mut out);
    out.extend(capsule);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Result<Option<Close>, Fault> {
        let mut reader = CapsuleReader::new();
        let mut last = Ok(None);
        for piece in bytes.chunks(size) {
            last = reader.receive(Bytes::copy_from_slice(piece));
            last.as_ref().map_err(|fault| *fault)?;
        }
        last
    }

    #[test]
    fn a_close_is_found_behind_other_capsules() {
        let close = close(0x3, "why");
        // DRAIN_WEBTRANSPORT_SESSION, and one that nobody knows.
        let before = [0x80, 0x00, 0x78, 0xae, 0, 0x17, 3, 1, 2, 3];
        // Without the head of the DATA frame.
        let bytes = [&before[..], &close[2..]].concat();
        let expected = Close { code: 3, reason: Bytes::from_static(b"why") };
        for size in 1..bytes.len() {
            assert_eq!(read(&bytes, size), Ok(Some(expected.clone())), "by {size}");
        }
        assert_eq!(read(&before, 99), Ok(None));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let close = close(1, &format!("x{}", "é".repeat(1_000)));
        // Head of the DATA frame, of three bytes.
        let read = read(&close[3..], 99).unwrap().unwrap();
        let reason = str::from_utf8(&read.reason).unwrap();
        assert_eq!(reason.len(), REASON_MAX - 1);
    }

    #[test]
    fn closes_that_are_none() {
        let wrong = |bytes: &[u8]| {
            assert!(matches!(read(bytes, 99), Err(Fault::Stream(Code::MESSAGE_ERROR, _))));
        };
        wrong(&[0x68, 0x43, 3, 0, 0, 0]);
        wrong(&[0x68, 0x43, 0x44, 0x05, 0, 0]);
        wrong(&[&[0x68, 0x43][..], &[0xff; 8]].concat());
        wrong(&[0x68, 0x43, 4, 0, 0, 0, 1, 9]);
    }
}

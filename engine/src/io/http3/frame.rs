//! Frames of control and request streams (RFC 9114 section 7), as they come.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    error::{Code, Fault},
    integer::{decode, encode},
};

/// Bytes of an encoded header list at most.
const HEADERS_MAX: u64 = 16 << 10;
/// Bytes of SETTINGS at most.
const SETTINGS_MAX: u64 = 4 << 10;
/// The longest type and length.
const HEAD_MAX: usize = 16;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;
/// What a WebTransport stream begins with, which is a frame nowhere else.
const WEBTRANSPORT_STREAM: u64 = 0x41;

/// Where frames are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) enum Place {
    /// The peer's control stream.
    Control,
    /// A request's stream, at the server.
    RequestAtServer,
    /// A request's stream, at the client.
    RequestAtClient,
}

/// What was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::io) enum Frame {
    /// A piece of DATA; never empty.
    Data(Bytes),
    /// An encoded header list.
    Headers(Bytes),
    /// The peer's settings, encoded.
    Settings(Bytes),
    /// The peer takes no more requests, or makes none.
    Goaway,
    /// MAX_PUSH_ID or CANCEL_PUSH, by its type, with its number.
    Push(u64, u64),
}

#[derive(Debug)]
enum State {
    /// Between frames; a type and length may have begun.
    Head,
    /// Inside a frame that is kept until it is whole.
    Whole { kind: u64, length: usize },
    /// Inside DATA.
    Data { left: u64 },
    /// Inside a frame of no meaning.
    Skip { left: u64 },
}

/// Reads frames out of a stream's bytes.
#[derive(Debug)]
pub(in crate::io) struct FrameReader {
    place: Place,
    state: State,
    held: BytesMut,
    next: Bytes,
    /// Whether a frame of no meaning has begun.
    skipped: bool,
}

impl FrameReader {
    /// Nothing was read yet.
    pub(in crate::io) fn new(place: Place) -> Self {
        let (held, next) = (BytesMut::new(), Bytes::new());
        Self { place, state: State::Head, held, next, skipped: false }
    }

    /// Takes what came. [`Self::poll`] must have said `None` before.
    pub(in crate::io) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.next.is_empty(), "what came before is read first");
        self.next = bytes;
    }

    /// Keeps no more of the chunks that bytes came in than these bytes.
    pub(in crate::io) fn detach(&mut self) {
        self.next = Bytes::copy_from_slice(&self.next);
    }

    /// Whether a frame of no meaning was among those that came.
    pub(in crate::io) const fn has_skipped(&self) -> bool {
        self.skipped
    }

    /// Whether it stands between two frames.
    pub(in crate::io) fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head) && self.held.is_empty() && self.next.is_empty()
    }

    /// The next frame that has a meaning.
    ///
    /// # Errors
    /// If a frame has no place here, or is no frame.
    pub(in crate::io) fn poll(&mut self) -> Result<Option<Frame>, Fault> {
        loop {
            match self.state {
                State::Head => match self.head() {
                    Some((kind, length)) => self.begin(kind, length)?,
                    None => return Ok(None),
                },
                State::Whole { kind, length } => {
                    let missing = length - self.held.len();
                    let piece = self.next.split_to(missing.min(self.next.len()));
                    self.held.extend_from_slice(&piece);
                    if self.held.len() < length {
                        return Ok(None);
                    }
                    self.state = State::Head;
                    return frame(kind, self.held.split().freeze()).map(Some);
                }
                State::Data { left } | State::Skip { left } if left == 0 => {
                    self.state = State::Head;
                }
                State::Data { .. } | State::Skip { .. } if self.next.is_empty() => {
                    return Ok(None);
                }
                State::Data { ref mut left } => {
                    return Ok(Some(Frame::Data(take(&mut self.next, left))));
                }
                State::Skip { ref mut left } => {
                    take(&mut self.next, left);
                }
            }
        }
    }

    /// The next frame's type and length, once both are here.
    fn head(&mut self) -> Option<(u64, u64)> {
        let room = HEAD_MAX - self.held.len();
        let before = self.held.len();
        self.held.extend_from_slice(&self.next[..room.min(self.next.len())]);
        let both = decode(&self.held).and_then(|(kind, first)| {
            decode(&self.held[first..]).map(|(length, second)| (kind, length, first + second))
        });
        match both {
            Some((kind, length, size)) => {
                self.held.clear();
                self.next.advance(size - before);
                Some((kind, length))
            }
            None => {
                self.next.clear();
                None
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Fault> {
        let unexpected = |what| Err(Fault::Connection(Code::FRAME_UNEXPECTED, what));
        let control = self.place == Place::Control;
        let max = match kind {
            DATA if !control => {
                self.state = State::Data { left: length };
                return Ok(());
            }
            HEADERS if !control => HEADERS_MAX,
            SETTINGS if control => SETTINGS_MAX,
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if control => 8,
            PUSH_PROMISE if self.place == Place::RequestAtClient => {
                return Err(Fault::Connection(Code::ID_ERROR, "no push was allowed"));
            }
            DATA | HEADERS | PUSH_PROMISE => return unexpected("a frame of requests elsewhere"),
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => {
                return unexpected("a frame of the control stream elsewhere");
            }
            // Frames of HTTP/2 (RFC 9114 section 7.2.8).
            0x2 | 0x6 | 0x8 | 0x9 => return unexpected("a frame of HTTP/2"),
            WEBTRANSPORT_STREAM => {
                return Err(Fault::Connection(Code::FRAME_ERROR, "WT_STREAM inside a stream"));
            }
            _ => {
                self.skipped = true;
                self.state = State::Skip { left: length };
                return Ok(());
            }
        };
        match usize::try_from(length) {
            Ok(length) if length as u64 <= max => {
                self.state = State::Whole { kind, length };
                Ok(())
            }
            _ if max == 8 => Err(Fault::Connection(Code::FRAME_ERROR, "more than an integer")),
            _ => Err(Fault::Connection(Code::EXCESSIVE_LOAD, "a frame that is too long")),
        }
    }
}

/// Takes at most `left` bytes.
fn take(bytes: &mut Bytes, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= length as u64;
    bytes.split_to(length)
}

fn frame(kind: u64, payload: Bytes) -> Result<Frame, Fault> {
    match kind {
        HEADERS => Ok(Frame::Headers(payload)),
        SETTINGS => Ok(Frame::Settings(payload)),
        _ => match decode(&payload) {
            Some((_, size)) if size == payload.len() && kind == GOAWAY => Ok(Frame::Goaway),
            Some((id, size)) if size == payload.len() => Ok(Frame::Push(kind, id)),
            _ => Err(Fault::Connection(Code::FRAME_ERROR, "not one integer")),
        },
    }
}

/// A whole HEADERS frame.
pub(in crate::io) fn headers_frame(block: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(block.len() + HEAD_MAX);
    encode(HEADERS, &mut out);
    encode(block.len() as u64, &mut out);
    out.extend_from_slice(block);
    out.into()
}

/// What stands before `length` bytes of DATA.
pub(in crate::io) fn data_header(length: usize, out: &mut Vec<u8>) {
    encode(DATA, out);
    encode(length as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `bytes`, given whole and one by one.
    #[track_caller]
    fn check(place: Place, bytes: &[u8], expected: &Result<Vec<Frame>, Code>) {
        for size in [bytes.len().max(1), 1] {
            let mut reader = FrameReader::new(place);
            let mut frames = Vec::new();
            let mut fault = None;
            'all: for piece in bytes.chunks(size) {
                reader.push(Bytes::copy_from_slice(piece));
                loop {
                    match reader.poll() {
                        Ok(Some(Frame::Data(piece))) => match frames.last_mut() {
                            Some(Frame::Data(before)) => {
                                *before = [&before[..], &piece[..]].concat().into();
                            }
                            _ => frames.push(Frame::Data(piece)),
                        },
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(wrong) => {
                            fault = Some(wrong.code());
                            break 'all;
                        }
                    }
                }
            }
            assert_eq!(&fault.map_or(Ok(frames), Err), expected, "{bytes:02x?} by {size}");
        }
    }

    #[test]
    fn frames_that_have_a_place() {
        let request = Place::RequestAtServer;
        let headers = Frame::Headers(Bytes::from_static(b"ab"));
        check(request, &[1, 2, b'a', b'b'], &Ok(vec![headers.clone()]));
        let data = Frame::Data(Bytes::from_static(b"xyz"));
        check(request, &[1, 2, b'a', b'b', 0, 3, b'x', b'y', b'z', 0, 0], &Ok(vec![headers, data]));
        // Grease, and a PRIORITY_UPDATE, in between.
        let control = [0x21, 3, 9, 9, 9, 4, 0, 0x80, 0x0f, 0x07, 0x00, 1, 9, 7, 1, 4, 0xd, 1, 8];
        let settings = Frame::Settings(Bytes::new());
        let push = Frame::Push(0xd, 8);
        check(Place::Control, &control, &Ok(vec![settings, Frame::Goaway, push]));
    }

    #[test]
    fn frames_that_have_none() {
        for kind in [0x0, 0x1, 0x2, 0x5, 0x6, 0x8, 0x9] {
            check(Place::Control, &[kind, 0], &Err(Code::FRAME_UNEXPECTED));
        }
        for kind in [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd] {
            check(Place::RequestAtServer, &[kind, 0], &Err(Code::FRAME_UNEXPECTED));
        }
        check(Place::RequestAtClient, &[5, 1, 0], &Err(Code::ID_ERROR));
        check(Place::RequestAtServer, &[0x40, 0x41, 0], &Err(Code::FRAME_ERROR));
        check(Place::Control, &[7, 0], &Err(Code::FRAME_ERROR));
        check(Place::Control, &[7, 2, 1, 1], &Err(Code::FRAME_ERROR));
        check(Place::Control, &[7, 9], &Err(Code::FRAME_ERROR));
    }

    #[test]
    fn lengths_are_not_believed() {
        check(Place::RequestAtServer, &[1, 0x80, 0, 0x40, 1], &Err(Code::EXCESSIVE_LOAD));
        check(Place::Control, &[4, 0x50, 1], &Err(Code::EXCESSIVE_LOAD));
        let huge = [&[1][..], &[0xff; 8]].concat();
        check(Place::RequestAtServer, &huge, &Err(Code::EXCESSIVE_LOAD));
        // Frames of no meaning are not kept, whatever their length.
        check(Place::RequestAtServer, &[&[0x21][..], &[0xff; 8], &[7; 99]].concat(), &Ok(vec![]));
    }
}

//! The codec against golden vectors, generated values, hostile bytes, and another codec.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod allocation;
mod boundaries;
mod compact;
mod data;
mod differential;
mod fuzz_corpus;
mod messages;
mod scopes;
mod strategy;
mod vectors;

use aip_codec::{
    DecodeError, Version,
    moqt::message::{Frame, FrameDecoder, Message},
};
use bytes::{Bytes, BytesMut};

/// The bytes that `hex` spells.
fn unhex(hex: &str) -> Bytes {
    let digits: Vec<_> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The one frame that `bytes` are.
fn frame(version: Version, bytes: Bytes) -> Result<Frame, DecodeError> {
    let mut decoder = FrameDecoder::new(version);
    decoder.push(bytes);
    let frame = decoder.poll()?.ok_or(DecodeError::Incomplete)?;
    assert!(decoder.is_empty());
    Ok(frame)
}

/// The one message that `bytes` are.
fn decode(version: Version, bytes: Bytes) -> Result<Message, DecodeError> {
    let frame = frame(version, bytes)?;
    Message::decode(version, frame.kind, frame.body)
}

/// The bytes of `message`.
#[track_caller]
fn encode(version: Version, message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    if let Err(error) = message.encode(version, &mut out) {
        panic!("{error}: {message:?}");
    }
    out.freeze()
}

//! What an MCP program may write on its standard output: lines, each a JSON-RPC message or not.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use aip_gateway::{
    lines::{Line, Lines, on_one_line},
    message::{Id, Limits, Message},
};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, ReadBuf};

use super::choice;

/// Bytes in pieces of one length.
struct Pieces<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.length.min(self.bytes.len()).min(buffer.remaining());
        let (piece, rest) = self.bytes.split_at(length);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

fn lines(bytes: &[u8], length: usize, length_max: usize) -> Vec<Line> {
    let mut lines = Lines::new(Pieces { bytes, length }, length_max);
    let mut found = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut next = Box::pin(lines.next());
        match next.as_mut().poll(&mut context) {
            Poll::Ready(Ok(Some(line))) => found.push(line),
            Poll::Ready(Ok(None)) => return found,
            Poll::Ready(Err(error)) => panic!("bytes in memory cannot fail: {error}"),
            Poll::Pending => panic!("bytes in memory need no waiting"),
        }
    }
}

/// Longest line, length of pieces, what the program writes.
///
/// # Panics
/// If what has to hold does not.
pub fn json_rpc(mut input: &[u8]) {
    let length_max = usize::from(choice(&mut input)) * 16;
    let length = usize::from(choice(&mut input)) + 1;
    let whole = lines(input, input.len().max(1), length_max);
    assert_eq!(whole, lines(input, length, length_max), "pieces matter");
    let limits = Limits { length_max: length_max.max(1), depth_max: 64 };
    for line in whole {
        let Line::Whole(text) = line else { continue };
        assert!(!text.is_empty() && text.len() <= length_max && !text.contains(&b'\n'));
        message(&text, &limits);
    }
    message(&Bytes::from(input.to_vec()), &Limits { length_max: 1 << 20, depth_max: 64 });
}

fn message(text: &Bytes, limits: &Limits) {
    let Ok(message) = Message::parse(text.clone(), limits) else { return };
    assert_eq!(message.text()[..], *text.trim_ascii(), "it goes through as it stood");
    if !message.body().is_empty() {
        assert!(message.body_bytes().starts_with(message.body().as_bytes()));
    }
    let again = Message::parse(on_one_line(message.text().clone()), limits);
    let again = again.expect("on one line it is the same message");
    assert_eq!(
        (again.kind(), again.method(), again.id()),
        (message.kind(), message.method(), message.id())
    );
    let other = message.with_id(Id::from_number(7));
    let parsed = Message::parse(other.text().clone(), limits);
    // A longer id may pass the limit of length.
    if let Ok(parsed) = parsed {
        assert_eq!((parsed.kind(), parsed.body()), (message.kind(), message.body()));
        let id = parsed.id().and_then(Id::as_number);
        assert_eq!(id, message.id().map(|_| 7), "only what has an id gets another");
    }
    let text = std::str::from_utf8(message.text()).expect("a message is UTF-8");
    // A member that nobody knows may stand there twice.
    let parsed: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(text);
    assert!(parsed.is_ok(), "a message is an object");
}

//! Bytes, in bulk and on many streams.

use aip_engine::transport::Action;

use crate::node::{Habits, client_bidi, client_uni, pair, pattern, server_bidi, server_uni};

const ECHO: Habits = Habits { echo: true, quiet: false, drains: false };
const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };

#[test]
fn bulk_arrives_unchanged_both_ways() {
    let pair = pair(ECHO, PLAIN);
    let sent = pattern(8 << 20, 1);
    for piece in sent.chunks(100_000) {
        pair.client.send(pair.dialled, client_bidi(0), piece.to_vec(), false);
    }
    pair.client.send(pair.dialled, client_bidi(0), "", true);
    let echoed = pair.client.whole_stream(pair.dialled, client_bidi(0));
    assert!(echoed == sent, "the echo differs");
    assert!(pair.server.whole_stream(pair.accepted, client_bidi(0)) == sent, "the bytes differ");
    pair.client.sent(pair.dialled, client_bidi(0), sent.len());
}

#[test]
fn either_side_may_open_either_kind() {
    let pair = pair(PLAIN, PLAIN);
    let streams = [client_bidi(0), client_uni(0), server_bidi(0), server_uni(0)];
    for (index, stream) in streams.into_iter().enumerate() {
        let bytes = pattern(70_000, index as u64);
        let (from, to) = match index {
            0 | 1 => ((&pair.client, pair.dialled), (&pair.server, pair.accepted)),
            _ => ((&pair.server, pair.accepted), (&pair.client, pair.dialled)),
        };
        from.0.send(from.1, stream, bytes.clone(), true);
        assert!(to.0.whole_stream(to.1, stream) == bytes, "{stream:?}");
    }
}

#[test]
fn an_end_alone_arrives() {
    let pair = pair(PLAIN, PLAIN);
    pair.client.send(pair.dialled, client_uni(0), "", true);
    assert_eq!(pair.server.whole_stream(pair.accepted, client_uni(0)), b"");
    pair.client.send(pair.dialled, client_uni(1), "x", false);
    assert_eq!(pair.server.bytes(pair.accepted, client_uni(1), 1), b"x");
    pair.client.send(pair.dialled, client_uni(1), "", true);
    assert_eq!(pair.server.whole_stream(pair.accepted, client_uni(1)), b"");
}

#[test]
fn a_hundred_thousand_streams_leave_nothing_behind() {
    const STREAMS: u64 = 100_000;
    let quiet = Habits { echo: true, quiet: true, drains: false };
    let pair = pair(quiet, PLAIN);
    let mut echoed = 0_u64;
    let mut opened = 0_u64;
    while echoed < STREAMS {
        while opened < STREAMS && opened < echoed + 3_000 {
            let bytes = opened.to_be_bytes().to_vec();
            pair.client.send(pair.dialled, client_uni(opened), bytes, true);
            opened += 1;
        }
        echoed += pair.client.wait("an echo", |told| match told {
            crate::node::Told::Stream(_, _, _, true) => Some(1),
            crate::node::Told::Stream(..) | crate::node::Told::Sent(..) => Some(0),
            _ => None,
        });
    }
    pair.client.act(pair.dialled, Action::SendDatagram { bytes: "end".into(), expires: None });
    pair.client
        .wait("the datagram", |told| matches!(told, crate::node::Told::Datagram(..)).then_some(()));
    let deadline = std::time::Instant::now() + crate::node::PATIENCE;
    while pair.client.handle.counters().stream_bytes_queued != 0
        || pair.client.handle.counters().stream_bytes_sent_total < STREAMS * 8
    {
        assert!(std::time::Instant::now() < deadline, "{:?}", pair.client.handle.counters());
        std::thread::yield_now();
    }
}

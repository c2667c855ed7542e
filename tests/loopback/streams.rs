//! The life of streams: resets, stops, pauses, limits, order.

use aip_codec::moqt::id::RequestId;
use aip_engine::{
    io::{Config, Quic},
    schedule::Precedence,
    transport::{Action, StreamId},
};

use crate::node::{
    Habits, Node, Pair, Told, client_bidi, client_uni, pair, pattern, server_config, server_uni,
};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };

/// A pair whose peers may have this many unidirectional streams and this much under way.
fn narrow_pair(streams: u64, window: u64) -> Pair {
    let mut quic = Quic::default();
    quic.streams_unidirectional_max = streams;
    quic.stream_window = window;
    quic.stream_window_max = window;
    quic.connection_window = window * 2;
    quic.connection_window_max = window * 2;
    let server = Node::new(server_config().with_quic(quic.clone()), PLAIN);
    let client = Node::new(Config::client(vec![server.target()]).with_quic(quic), PLAIN);
    Pair::of(server, client)
}

#[test]
fn a_reset_arrives_with_its_code_both_ways() {
    let pair = pair(PLAIN, PLAIN);
    pair.client.send(pair.dialled, client_uni(0), "some", false);
    pair.server.bytes(pair.accepted, client_uni(0), 4);
    pair.client.act(pair.dialled, Action::Reset { stream: client_uni(0), code: 0x11 });
    assert_eq!(pair.server.reset(pair.accepted, client_uni(0)), 0x11);

    pair.server.send(pair.accepted, server_uni(0), "some", false);
    pair.client.bytes(pair.dialled, server_uni(0), 4);
    pair.server.act(pair.accepted, Action::Reset { stream: server_uni(0), code: 0x12 });
    assert_eq!(pair.client.reset(pair.dialled, server_uni(0)), 0x12);
}

#[test]
fn one_side_of_a_stream_may_be_reset_while_the_other_goes_on() {
    let pair = pair(PLAIN, PLAIN);
    pair.client.send(pair.dialled, client_bidi(0), "question", false);
    pair.server.bytes(pair.accepted, client_bidi(0), 8);
    pair.client.act(pair.dialled, Action::Reset { stream: client_bidi(0), code: 1 });
    assert_eq!(pair.server.reset(pair.accepted, client_bidi(0)), 1);
    pair.server.send(pair.accepted, client_bidi(0), "answer", true);
    assert_eq!(pair.client.whole_stream(pair.dialled, client_bidi(0)), b"answer");
}

#[test]
fn a_stop_arrives_once_though_nothing_is_queued() {
    let pair = pair(PLAIN, PLAIN);
    for round in 0..20 {
        // A stream that is idle in the middle, and one that has not said anything yet.
        let (ours, theirs) = (client_uni(round), client_bidi(round));
        pair.client.send(pair.dialled, ours, "some", false);
        pair.client.send(pair.dialled, theirs, "ask", false);
        pair.server.bytes(pair.accepted, ours, 4);
        pair.server.bytes(pair.accepted, theirs, 3);
        pair.server.act(pair.accepted, Action::Stop { stream: ours, code: 0x21 + round });
        pair.client.act(pair.dialled, Action::Stop { stream: theirs, code: 0x51 + round });
        assert_eq!(pair.client.stop(pair.dialled, ours), 0x21 + round);
        assert_eq!(pair.server.stop(pair.accepted, theirs), 0x51 + round);
        // What is sent after that is told as sent, and nothing is stopped twice.
        pair.client.send(pair.dialled, ours, "more", false);
        pair.server.send(pair.accepted, theirs, "more", true);
        pair.client.sent(pair.dialled, ours, 8);
        pair.server.sent(pair.accepted, theirs, 4);
        pair.client.act(pair.dialled, Action::Reset { stream: theirs, code: 0 });
    }
    // A round trip later nothing more was told.
    pair.client.send(pair.dialled, client_uni(20), "end", true);
    pair.server.whole_stream(pair.accepted, client_uni(20));
    for node in [&pair.client, &pair.server] {
        node.never("stopped twice", |told| matches!(told, Told::Stop(..)));
    }
}

#[test]
fn a_stop_drops_what_is_queued_and_tells_it_as_sent() {
    let pair = narrow_pair(100, 64 << 10);
    let bytes = pattern(1 << 20, 1);
    pair.client.send(pair.dialled, client_uni(0), bytes.clone(), true);
    pair.server.wait("the first bytes", |told| {
        matches!(told, Told::Stream(_, stream, ..) if *stream == client_uni(0)).then_some(())
    });
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(0) });
    pair.server.act(pair.accepted, Action::Stop { stream: client_uni(0), code: 7 });
    assert_eq!(pair.client.stop(pair.dialled, client_uni(0)), 7);
    pair.client.sent(pair.dialled, client_uni(0), bytes.len());
}

#[test]
fn a_reset_drops_what_is_queued_and_tells_it_as_sent() {
    let pair = narrow_pair(100, 64 << 10);
    pair.client.send(pair.dialled, client_uni(0), "first", false);
    pair.server.bytes(pair.accepted, client_uni(0), 5);
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(0) });
    pair.client.send(pair.dialled, client_uni(0), pattern(1 << 20, 1), false);
    pair.client.act(pair.dialled, Action::Reset { stream: client_uni(0), code: 9 });
    pair.client.sent(pair.dialled, client_uni(0), 5 + (1 << 20));
    // Even though it is paused.
    assert_eq!(pair.server.reset(pair.accepted, client_uni(0)), 9);
}

#[test]
fn a_paused_stream_holds_its_sender_and_no_other() {
    let window = 64 << 10;
    let pair = narrow_pair(100, window);
    pair.client.send(pair.dialled, client_uni(0), "first", false);
    pair.server.bytes(pair.accepted, client_uni(0), 5);
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(0) });
    // The pause is in force once a later action of the same driver had its effect.
    pair.server.send(pair.accepted, server_uni(0), "paused", true);
    pair.client.whole_stream(pair.dialled, server_uni(0));

    let bytes = pattern(1 << 20, 3);
    pair.client.send(pair.dialled, client_uni(0), bytes.clone(), true);
    let other = pattern(300_000, 4);
    pair.client.send(pair.dialled, client_uni(1), other.clone(), true);
    assert!(pair.server.whole_stream(pair.accepted, client_uni(1)) == other);
    pair.server.never(
        "paused bytes",
        |told| matches!(told, Told::Stream(_, stream, ..) if *stream == client_uni(0)),
    );
    let left = std::cell::Cell::new(0);
    pair.client.never("more than the window left the queue", |told| {
        if let Told::Sent(_, stream, length) = told
            && *stream == client_uni(0)
        {
            left.set(left.get() + length);
        }
        usize::try_from(window).unwrap() < left.get()
    });

    pair.server.act(pair.accepted, Action::Resume { stream: client_uni(0) });
    assert!(pair.server.whole_stream(pair.accepted, client_uni(0)) == bytes);
}

#[test]
fn a_stream_that_goes_on_is_read_though_its_peer_says_nothing_more() {
    let pair = narrow_pair(100, 64 << 10);
    pair.client.send(pair.dialled, client_uni(0), "first", false);
    pair.server.bytes(pair.accepted, client_uni(0), 5);
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(0) });
    pair.server.send(pair.accepted, server_uni(0), "paused", true);
    pair.client.whole_stream(pair.dialled, server_uni(0));
    pair.client.send(pair.dialled, client_uni(0), "second", true);
    // It is there once what was sent after it is, and after a while nothing is under way.
    pair.client.send(pair.dialled, client_uni(1), "third", true);
    pair.server.whole_stream(pair.accepted, client_uni(1));
    pair.server.never(
        "paused bytes",
        |told| matches!(told, Told::Stream(_, stream, ..) if *stream == client_uni(0)),
    );
    pair.server.act(pair.accepted, Action::Resume { stream: client_uni(0) });
    assert!(pair.server.whole_stream(pair.accepted, client_uni(0)).ends_with(b"second"));
}

#[test]
fn streams_beyond_the_limit_wait_for_it() {
    let pair = narrow_pair(10, 64 << 10);
    for index in 0..500 {
        pair.client.send(pair.dialled, client_uni(index), index.to_be_bytes().to_vec(), true);
    }
    for index in 0..500 {
        let bytes = pair.server.whole_stream(pair.accepted, client_uni(index));
        assert_eq!(bytes, index.to_be_bytes());
    }
}

#[test]
fn a_stream_reset_before_it_could_open_uses_up_its_number() {
    // Those of HTTP/3 come on top. With one stream left to it, a number could open between the two
    // actions, and all its bytes be gone before it is reset.
    let limit = 4 + 3;
    let pair = narrow_pair(4, 64 << 10);
    let held: Vec<StreamId> = (0..limit).map(client_uni).collect();
    for &stream in &held {
        pair.client.send(pair.dialled, stream, "open", false);
        pair.server.bytes(pair.accepted, stream, 4);
    }
    for index in limit..200 {
        pair.client.send(pair.dialled, client_uni(index), "never to be sent", true);
        pair.client.act(pair.dialled, Action::Reset { stream: client_uni(index), code: index });
        pair.client.sent(pair.dialled, client_uni(index), 16);
    }
    pair.client.send(pair.dialled, client_uni(200), "last", true);
    for stream in held {
        pair.client.send(pair.dialled, stream, "", true);
    }
    for index in limit..200 {
        assert_eq!(pair.server.reset(pair.accepted, client_uni(index)), index);
    }
    assert_eq!(pair.server.whole_stream(pair.accepted, client_uni(200)), b"last");
}

#[test]
fn stopping_many_streams_does_not_use_up_the_peers_streams() {
    let pair = narrow_pair(40, 64 << 10);
    for index in 0..400 {
        pair.client.send(pair.dialled, client_uni(index), "x", false);
        pair.server.bytes(pair.accepted, client_uni(index), 1);
        pair.server.act(pair.accepted, Action::Stop { stream: client_uni(index), code: 1 });
        pair.server.send(pair.accepted, server_uni(index), "stopped", true);
        pair.client.whole_stream(pair.dialled, server_uni(index));
        // What comes after a stop is not delivered.
        pair.client.send(pair.dialled, client_uni(index), pattern(2_000, index), true);
    }
    pair.client.send(pair.dialled, client_uni(400), "last", true);
    assert_eq!(pair.server.whole_stream(pair.accepted, client_uni(400)), b"last");
    pair.server.never(
        "delivered after a stop",
        |told| matches!(told, Told::Stream(_, _, bytes, _) if 4 < bytes.len()),
    );
}

#[test]
fn more_urgent_streams_go_first() {
    let pair = pair(PLAIN, PLAIN);
    let bulk = pattern(4 << 20, 1);
    let prioritize = |stream, subscriber_priority| {
        let precedence = Precedence::data(RequestId(0), subscriber_priority);
        pair.client.act(pair.dialled, Action::Prioritize { stream, precedence });
    };
    prioritize(client_uni(0), 200);
    pair.client.send(pair.dialled, client_uni(0), bulk.clone(), true);
    prioritize(client_uni(1), 10);
    pair.client.send(pair.dialled, client_uni(1), "urgent", true);
    let mut before = 0;
    pair.server.wait("the urgent stream", |told| match told {
        Told::Stream(_, stream, bytes, fin) if *stream == client_uni(0) => {
            before += bytes.len();
            assert!(!fin, "the urgent stream came last");
            None
        }
        Told::Stream(_, stream, _, true) if *stream == client_uni(1) => Some(()),
        _ => None,
    });
    assert!(before < bulk.len() / 2, "{before} bytes came before what is more urgent");
    assert!(pair.server.whole_stream(pair.accepted, client_uni(0)) == bulk);
}

//! Links: what goes in at one side comes out at the other; and when a shard hands it over.

use std::time::Instant;

use aip_codec::Version;
use bytes::Bytes;

use super::parcel::Content;
use super::{
    Place, Shard,
    link::{Heard, Link},
};
use crate::{
    relay::Config,
    schedule::Precedence,
    transport::{Action, Driver as _, Peer, SessionId, Side, StreamId},
};

const UNI: StreamId = StreamId::new(Side::Client, false, 0);
const BIDI: StreamId = StreamId::new(Side::Client, true, 0);

fn link(side: Side) -> Link {
    Link::new(SessionId(1), 0, side)
}

fn send(link: &mut Link, stream: StreamId, text: &'static str, fin: bool) {
    link.execute(Action::Send { stream, bytes: Bytes::from_static(text.as_bytes()), fin });
}

fn poll(link: &mut Link) -> Option<Content> {
    link.poll_aside().or_else(|| link.poll_stream())
}

/// Carries everything from one side to the other.
fn carry(from: &mut Link, to: &mut Link) {
    while let Some(content) = poll(from) {
        to.receive(content);
    }
}

/// What a side has heard, in few words.
fn heard(link: &mut Link) -> Vec<String> {
    std::iter::from_fn(|| link.hear())
        .map(|heard| match heard {
            Heard::Stream { stream, bytes, fin } => {
                let end = if fin { "|" } else { "" };
                format!("{stream}={}{end}", bytes.escape_ascii())
            }
            Heard::Reset { stream, code } => format!("{stream} reset {code}"),
            Heard::Stop { stream, code } => format!("{stream} stop {code}"),
            Heard::Datagram { bytes } => format!("datagram {}", bytes.escape_ascii()),
            Heard::Sent { stream, length } => format!("{stream} sent {length}"),
        })
        .collect()
}

#[test]
fn bytes_have_left_when_they_are_handed_over() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, UNI, "ab", false);
    send(&mut client, UNI, "c", true);
    assert!(heard(&mut client).is_empty(), "they wait");
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut client), ["2 sent 2", "2 sent 1"]);
    assert_eq!(heard(&mut server), ["2=ab", "2=c|"]);
}

#[test]
fn the_same_bytes_arrive_not_a_copy() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    let bytes = Bytes::from(vec![7; 1_000]);
    client.execute(Action::Send { stream: UNI, bytes: bytes.clone(), fin: false });
    carry(&mut client, &mut server);
    let Some(Heard::Stream { bytes: arrived, .. }) = server.hear() else { panic!("nothing") };
    assert_eq!(arrived.as_ptr(), bytes.as_ptr());
}

#[test]
fn messages_go_before_objects_however_late_they_come() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    let object = StreamId::new(Side::Client, false, 1);
    let precedence = Precedence::data(aip_codec::moqt::id::RequestId(0), 128);
    client.execute(Action::Prioritize { stream: object, precedence });
    send(&mut client, object, "object", false);
    send(&mut client, BIDI, "message", false);
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut server), ["0=message", "6=object"]);
}

#[test]
fn a_paused_stream_waits_on_both_sides() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, UNI, "a", false);
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut server), ["2=a"]);
    // This is on its way when the stream is paused.
    send(&mut client, UNI, "b", false);
    carry(&mut client, &mut server);
    server.execute(Action::Pause { stream: UNI });
    assert!(heard(&mut server).is_empty());
    carry(&mut server, &mut client);
    send(&mut client, UNI, "c", true);
    assert!(poll(&mut client).is_none(), "the sender holds it back");
    server.execute(Action::Resume { stream: UNI });
    carry(&mut server, &mut client);
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut server), ["2=b", "2=c|"]);
}

#[test]
fn a_stopped_stream_is_reset_and_says_nothing_more() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, UNI, "a", false);
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut server), ["2=a"]);
    server.execute(Action::Stop { stream: UNI, code: 7 });
    send(&mut client, UNI, "bc", false);
    carry(&mut server, &mut client);
    assert_eq!(heard(&mut client), ["2 sent 1", "2 sent 2", "2 stop 7"]);
    send(&mut client, UNI, "d", true);
    assert_eq!(heard(&mut client), ["2 sent 1"], "what is refused is told as sent");
    carry(&mut client, &mut server);
    assert!(heard(&mut server).is_empty());
}

#[test]
fn a_reset_drops_what_waits() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, UNI, "abc", false);
    client.execute(Action::Reset { stream: UNI, code: 3 });
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut client), ["2 sent 3"]);
    assert_eq!(heard(&mut server), ["2 reset 3"]);
}

#[test]
fn a_request_is_answered_on_its_stream_once() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, BIDI, "ask", false);
    carry(&mut client, &mut server);
    send(&mut server, BIDI, "answer", true);
    carry(&mut server, &mut client);
    assert_eq!(heard(&mut client), ["0 sent 3", "0=answer|"]);
    // The rest of the request opens no second answer.
    send(&mut client, BIDI, "", true);
    carry(&mut client, &mut server);
    send(&mut server, BIDI, "again", true);
    assert!(poll(&mut server).is_none());
}

#[test]
fn datagrams_beyond_the_limit_are_dropped_and_counted() {
    let mut client = link(Side::Client);
    for _ in 0..1_030 {
        client.execute(Action::SendDatagram { bytes: Bytes::from_static(b"x"), expires: None });
    }
    let left = std::iter::from_fn(|| poll(&mut client));
    let left = left.filter(|content| matches!(content, Content::Datagram { .. })).count();
    assert_eq!((left, client.datagrams_dropped), (1_024, 6));
}

#[test]
fn what_waited_while_a_stream_was_paused_comes_before_what_came_behind_it() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    for text in ["a", "b", "c"] {
        send(&mut client, UNI, text, false);
    }
    client.execute(Action::SendDatagram { bytes: Bytes::from_static(b"d"), expires: None });
    while let Some(content) = client.poll_stream().or_else(|| client.poll_aside()) {
        server.receive(content);
    }
    send(&mut client, UNI, "e", true);
    carry(&mut client, &mut server);
    assert!(matches!(server.hear(), Some(Heard::Stream { .. })), "a");
    server.execute(Action::Pause { stream: UNI });
    assert!(matches!(server.hear(), Some(Heard::Datagram { .. })), "b and c wait");
    server.execute(Action::Resume { stream: UNI });
    assert_eq!(heard(&mut server), ["2=b", "2=c", "2=e|"]);
}

#[test]
fn a_pause_that_is_over_before_it_was_told_is_not_told() {
    let (mut client, mut server) = (link(Side::Client), link(Side::Server));
    send(&mut client, UNI, "a", false);
    carry(&mut client, &mut server);
    assert_eq!(heard(&mut server), ["2=a"]);
    for _ in 0..1_000 {
        server.execute(Action::Pause { stream: UNI });
        server.execute(Action::Resume { stream: UNI });
    }
    assert!(poll(&mut server).is_none());
    server.execute(Action::Pause { stream: UNI });
    assert_eq!(poll(&mut server), Some(Content::Pause { stream: UNI }));
    server.execute(Action::Resume { stream: UNI });
    assert_eq!(poll(&mut server), Some(Content::Resume { stream: UNI }));
}

#[test]
fn a_link_of_which_nothing_is_taken_is_closed_before_ends_of_streams_fill_it() {
    let mut client = link(Side::Client);
    let mut ended = 0;
    while !client.closed && ended < 1 << 20 {
        let stream = StreamId::new(Side::Client, false, ended);
        send(&mut client, stream, "a", false);
        client.execute(Action::Reset { stream, code: 0 });
        ended += 1;
    }
    assert!(client.closed);
    assert_eq!(ended, (1 << 18) + 1);
}

/// What a shard's relay wants of other shards leaves before anybody asks what it wants of its peers:
/// these may be many.
#[test]
fn what_is_for_other_shards_does_not_wait_for_what_is_for_peers() {
    let place = |index| Place { index, count: 2 };
    #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
    let now = Instant::now();
    let [mut one, mut two] =
        [0, 1].map(|index| Shard::new(&Config::default(), place(index), false));
    one.handle_begin(now);
    two.handle_begin(now);
    let peer = Peer::new(Side::Server, Version::Draft22, ([127, 0, 0, 1], 1).into());
    one.handle_connected(SessionId(1), peer, now);
    let parcel = one.poll_parcel(1, now).expect("the link's SETUP");
    two.handle_parcel(0, parcel, now);
    assert!(two.poll_parcel(0, now).is_some(), "its answer");
    let told = std::iter::from_fn(|| one.poll_action()).map(|(session, _)| session);
    assert_eq!(told.collect::<Vec<_>>(), [SessionId(1); 2], "the peer's SETUP");
}

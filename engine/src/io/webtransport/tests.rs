//! Two sides of a session, and one side with a peer that does not keep to HTTP/3.

use aip_codec::moqt::error_code::SessionCode;

use super::*;
use crate::{
    io::http3::{data_header, encode},
    transport::{Action, Closed},
};

const DRAFTS: [Version; 3] = [Version::Draft22, Version::Draft20, Version::Draft18];

fn destination() -> Destination {
    Destination { authority: "relay.example:443".to_owned(), path: "/moq?x=1".to_owned() }
}

/// What one side has said and heard.
struct End {
    web: WebTransport,
    events: VecDeque<Event>,
    closed: Option<u64>,
}

impl End {
    fn server() -> Self {
        Self::of(WebTransport::server(&DRAFTS))
    }

    fn client(drafts: &[Version]) -> Self {
        Self::of(WebTransport::client(drafts, destination()))
    }

    fn of(web: WebTransport) -> Self {
        Self { web, events: VecDeque::new(), closed: None }
    }

    fn hear(&mut self, stream: u64, bytes: &[u8], fin: bool) {
        let bytes = Bytes::copy_from_slice(bytes);
        let event = Event::Stream { stream: StreamId(stream), bytes, fin };
        self.web.handle(event, &mut self.events);
    }

    /// What it wants, as the other side hears it.
    fn take(&mut self) -> Vec<Event> {
        let mut said = Vec::new();
        while let Some(want) = self.web.poll_want() {
            match want {
                Want::Send { stream, bytes, fin } => {
                    said.push(Event::Stream { stream, bytes, fin });
                }
                Want::Reset { stream, code } => said.push(Event::Reset { stream, code }),
                Want::Stop { stream, code } => said.push(Event::Stop { stream, code }),
                Want::Close { code, .. } => self.closed = self.closed.or(Some(code)),
            }
        }
        said
    }

    /// Carries out an action, and gives what the other side hears.
    fn act(&mut self, action: Action) -> Vec<Event> {
        let mut said = Vec::new();
        if let Some((head, action)) = self.web.outward(action, &mut Numbered::default()) {
            match action {
                Action::Send { stream, bytes, fin } => {
                    let bytes = [head.unwrap_or_default(), bytes].concat().into();
                    said.push(Event::Stream { stream, bytes, fin });
                }
                Action::Reset { stream, code } => said.push(Event::Reset { stream, code }),
                Action::Stop { stream, code } => said.push(Event::Stop { stream, code }),
                Action::SendDatagram { bytes, .. } => said.push(Event::Datagram(bytes)),
                Action::Close { code, reason } => self.web.say_farewell(code, &reason),
                _ => {}
            }
        }
        said.extend(self.take());
        said
    }

    fn handle(&mut self, said: Vec<Event>) {
        for event in said {
            self.web.handle(event, &mut self.events);
        }
    }

    /// What its driver was told, once nothing more is to be read.
    fn told(&mut self) -> Vec<String> {
        self.web.finish(&mut self.events);
        self.events.drain(..).map(|event| format!("{event:?}")).collect()
    }
}

/// Two sides whose session has begun.
fn pair(drafts: &[Version]) -> (End, End) {
    let (mut client, mut server) = (End::client(drafts), End::server());
    for _ in 0..3 {
        let said = client.take();
        server.handle(said);
        let said = server.take();
        client.handle(said);
    }
    (client, server)
}

#[test]
fn a_session_begins_with_the_draft_that_both_like_best() {
    for (drafts, version) in [
        (&DRAFTS[..], Version::Draft22),
        (&[Version::Draft18, Version::Draft20], Version::Draft20),
        (&[Version::Draft18], Version::Draft18),
    ] {
        let (mut client, mut server) = pair(drafts);
        let connected = format!("{:?}", Event::Connected { version });
        assert_eq!(client.told(), std::slice::from_ref(&connected));
        assert_eq!(server.told(), [connected]);
        assert_eq!((client.closed, server.closed), (None, None));
    }
}

#[test]
fn no_session_without_a_draft_that_both_speak() {
    let (mut client, mut server) = pair(&[Version::Draft19]);
    assert_eq!(client.told(), [r#"Failed("the server refuses the session: status 400")"#]);
    assert!(server.told().is_empty());
    assert_eq!((client.closed, server.closed), (Some(0x100), None));
}

#[test]
fn streams_and_datagrams_arrive_by_the_drivers_numbers() {
    let (mut client, mut server) = pair(&DRAFTS);
    client.told();
    server.told();
    let send = |stream, text: &'static str, fin| Action::Send {
        stream: StreamId(stream),
        bytes: Bytes::from_static(text.as_bytes()),
        fin,
    };
    let said = client.act(send(2, "control", false));
    server.handle(said);
    let said = client.act(send(0, "request", true));
    server.handle(said);
    let said = client.act(send(2, " goes on", false));
    server.handle(said);
    let said =
        client.act(Action::SendDatagram { bytes: Bytes::from_static(b"datagram"), expires: None });
    server.handle(said);
    assert_eq!(
        server.told(),
        [
            r#"Stream { stream: StreamId(6), bytes: b"control", fin: false }"#,
            r#"Stream { stream: StreamId(4), bytes: b"request", fin: true }"#,
            r#"Stream { stream: StreamId(6), bytes: b" goes on", fin: false }"#,
            r#"Datagram(b"datagram")"#,
        ]
    );
    // The server answers, opens its own, and gives one up.
    let said = server.act(send(4, "answer", true));
    client.handle(said);
    let said = server.act(send(3, "data", false));
    client.handle(said);
    let said = server.act(Action::Reset { stream: StreamId(3), code: 2 });
    client.handle(said);
    let said = server.act(send(1, "request", false));
    client.handle(said);
    assert_eq!(
        client.told(),
        [
            r#"Stream { stream: StreamId(0), bytes: b"answer", fin: true }"#,
            r#"Stream { stream: StreamId(7), bytes: b"data", fin: false }"#,
            "Reset { stream: StreamId(7), code: 2 }",
            r#"Stream { stream: StreamId(1), bytes: b"request", fin: false }"#,
        ]
    );
    let said = client.act(Action::Stop { stream: StreamId(1), code: 1 });
    server.handle(said);
    assert_eq!(server.told(), ["Stop { stream: StreamId(1), code: 1 }"]);
}

#[test]
fn a_datagram_to_many_is_copied_once() {
    let mut numbered = Numbered::default();
    let datagram = Bytes::from(vec![7; 100]);
    let first = numbered.of(0, datagram.clone());
    assert_eq!(first, [&[0][..], &datagram].concat());
    assert_eq!(numbered.of(0, datagram.clone()).as_ptr(), first.as_ptr());
    assert_eq!(numbered.of(64, datagram.slice(1..)), [&[0x40, 0x40][..], &[7; 99]].concat());
    assert_eq!(numbered.of(0, datagram.slice(1..))[..], first[..100]);
}

#[test]
fn heads_are_not_told_as_sent() {
    let (mut client, mut server) = pair(&DRAFTS);
    client.told();
    server.told();
    client.act(Action::Send { stream: StreamId(2), bytes: Bytes::from_static(b"x"), fin: false });
    for (stream, length) in [(2, 30), (0, 200), (6, 2), (6, 2), (6, 7)] {
        client.web.handle(Event::Sent { stream: StreamId(stream), length }, &mut client.events);
    }
    assert_eq!(
        client.told(),
        ["Sent { stream: StreamId(2), length: 1 }", "Sent { stream: StreamId(2), length: 7 }"]
    );
}

#[test]
fn a_close_is_told_with_its_code_and_answered() {
    let (mut client, mut server) = pair(&DRAFTS);
    client.told();
    server.told();
    let close = Action::Close { code: SessionCode::PROTOCOL_VIOLATION, reason: "why".to_owned() };
    let said = server.act(close);
    assert!(!server.web.is_farewell_heard());
    client.handle(said);
    assert_eq!(client.told(), [r#"Closed(ByPeer { code: 3, reason: b"why" })"#]);
    assert!(client.take().is_empty());
    assert_eq!(client.closed, Some(Code::NO_ERROR.0));
    let end = Closed::ByPeer { code: Code::NO_ERROR.0, reason: Bytes::new() };
    assert_eq!(server.web.end(end), Closed::Locally);
    assert!(server.told().is_empty());
}

#[test]
fn a_peer_may_answer_a_close_by_the_end_of_its_stream() {
    let (_, mut server) = pair(&DRAFTS);
    server.told();
    let close = Action::Close { code: SessionCode::NO_ERROR, reason: String::new() };
    server.act(close);
    assert!(!server.web.is_farewell_heard());
    server.hear(0, &[], true);
    assert!(server.web.is_farewell_heard());
    assert!(server.told().is_empty());
}

#[test]
fn nothing_is_told_of_a_session_that_the_driver_has_closed() {
    let (_, mut server) = pair(&DRAFTS);
    server.told();
    let close = Action::Close { code: SessionCode::NO_ERROR, reason: String::new() };
    assert!(server.web.outward(close, &mut Numbered::default()).is_some());
    assert!(server.web.owes_farewell());
    server.hear(6, &[0x40, 0x54, 0, b'u'], false);
    server.handle(vec![Event::Datagram(Bytes::from_static(&[0, b'd']))]);
    assert!(server.told().is_empty());
    // What was queued before goes on.
    server.handle(vec![Event::Sent { stream: StreamId(7), length: 9 }]);
    assert_eq!(server.told(), ["Sent { stream: StreamId(3), length: 9 }"]);
}

#[test]
fn the_end_of_the_connect_stream_is_the_sessions() {
    for end in [
        Event::Stream { stream: StreamId(0), bytes: Bytes::new(), fin: true },
        Event::Reset { stream: StreamId(0), code: 0x10c },
        Event::Stop { stream: StreamId(0), code: 0x10c },
    ] {
        let (_, mut server) = pair(&DRAFTS);
        server.told();
        server.handle(vec![end]);
        assert_eq!(server.told(), [r#"Closed(ByPeer { code: 0, reason: b"" })"#]);
        server.take();
        assert_eq!(server.closed, Some(Code::NO_ERROR.0));
    }
}

#[test]
fn what_comes_before_the_session_waits_for_it_within_a_bound() {
    let (mut client, mut server) = (End::client(&DRAFTS), End::server());
    let settings = client.take();
    let said = server.take();
    client.handle(said);
    let connect = client.take();
    // The session's streams, and one of another session, overtake its request.
    server.hear(6, &[0x40, 0x54, 0, b'u'], false);
    server.hear(4, &[0x40], false);
    server.hear(4, &[0x41, 0, b'b'], true);
    server.hear(10, &[0x40, 0x54, 8, b'o'], false);
    server.handle(vec![Event::Datagram(Bytes::from_static(&[0, b'd']))]);
    server.handle(connect);
    assert!(server.told().is_empty(), "the peer's settings are not here");
    server.handle(settings);
    assert_eq!(
        server.told(),
        [
            "Connected { version: Draft22 }",
            r#"Stream { stream: StreamId(6), bytes: b"u", fin: false }"#,
            r#"Stream { stream: StreamId(4), bytes: b"b", fin: true }"#,
            r#"Datagram(b"d")"#,
        ]
    );
    let said = server.take();
    let turned_away = |event: &Event| match event {
        Event::Stop { stream: StreamId(10), code } => *code == Code::BUFFERED_STREAM_REJECTED.0,
        _ => false,
    };
    assert!(said.iter().any(turned_away), "{said:?}");

    let mut server = End::server();
    server.take();
    let piece = [&[0x40, 0x54, 0][..], &[7; 10_000]].concat();
    for stream in 0..7 {
        server.hear(2 + 4 * stream, &piece, false);
    }
    let stopped = server.take().len();
    assert_eq!((stopped, server.web.early.len()), (1, 6));
}

/// A header list of literal fields.
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        let length = u8::try_from(name.len()).unwrap();
        match length {
            0..=6 => block.push(0x20 | length),
            _ => block.extend([0x27, length - 7]),
        }
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    let mut frame = vec![1];
    encode(block.len() as u64, &mut frame);
    frame.extend(block);
    frame
}

fn connect() -> Vec<u8> {
    headers(&[
        (":method", "CONNECT"),
        (":protocol", "webtransport-h3"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
        ("wt-available-protocols", "\"moqt-18\""),
    ])
}

/// The code with which a server closes a connection that says this.
#[track_caller]
fn closes(said: &[(u64, &[u8], bool)], code: Code) {
    let mut server = End::server();
    for (stream, bytes, fin) in said {
        server.hear(*stream, bytes, *fin);
    }
    server.take();
    assert_eq!(server.closed, Some(code.0), "{said:02x?}");
}

const CONTROL: &[u8] = &[0, 4, 0];

#[test]
fn connections_that_are_no_http3() {
    closes(&[(2, &[0, 7, 1, 0], false)], Code::MISSING_SETTINGS);
    closes(&[(2, CONTROL, false), (6, CONTROL, false)], Code::STREAM_CREATION_ERROR);
    closes(&[(2, CONTROL, true)], Code::CLOSED_CRITICAL_STREAM);
    closes(&[(2, &[2], true)], Code::CLOSED_CRITICAL_STREAM);
    closes(&[(2, &[3], false), (6, &[3], false)], Code::STREAM_CREATION_ERROR);
    closes(&[(2, &[1, 0], false)], Code::STREAM_CREATION_ERROR);
    closes(&[(2, &[2, 0x3f, 0xe1, 0x1f], false)], Code::QPACK_ENCODER_STREAM_ERROR);
    closes(&[(2, &[3, 0], false)], Code::QPACK_DECODER_STREAM_ERROR);
    closes(&[(0, &[0, 1, 9], false)], Code::FRAME_UNEXPECTED);
    closes(&[(0, &[3, 1, 0], false)], Code::FRAME_UNEXPECTED);
    closes(&[(0, &[1, 2, 0], true)], Code::FRAME_ERROR);
    closes(&[(0, &[1, 3, 0, 0, 0xff], false)], Code::QPACK_DECOMPRESSION_FAILED);
    closes(&[(0, &[1, 0x80, 1, 0, 0], false)], Code::EXCESSIVE_LOAD);
    closes(&[(6, &[0x40, 0x54, 1], false)], Code::ID_ERROR);
    let connect = connect();
    let settings = (2, CONTROL, false);
    closes(&[settings, (0, &connect, false), (0, &connect, false)], Code::FRAME_UNEXPECTED);
    closes(&[settings, (0, &connect, false), (0, &[4, 0], false)], Code::FRAME_UNEXPECTED);
    closes(&[settings, (0, &connect, false), (0, &[0, 3, 1], true)], Code::FRAME_ERROR);
    let mut server = End::server();
    server.handle(vec![Event::Datagram(Bytes::new())]);
    server.take();
    assert_eq!(server.closed, Some(Code::DATAGRAM_ERROR.0));
}

/// The code with which a server resets a request, or what it says.
#[track_caller]
fn answers(request: &[u8], fin: bool) -> String {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    server.take();
    server.hear(0, request, fin);
    let said = server.take();
    assert_eq!(server.closed, None);
    match said.into_iter().rfind(|event| !matches!(event, Event::Stop { .. })) {
        Some(Event::Reset { code, .. }) => format!("reset 0x{code:x}"),
        // A static index is all that a status takes, or a literal.
        Some(Event::Stream { bytes, fin, .. }) => format!("{:02x?}, {fin}", &bytes[4..]),
        other => format!("{other:?}"),
    }
}

#[test]
fn requests_that_are_no_sessions() {
    let malformed = "reset 0x10e";
    assert_eq!(answers(&headers(&[(":method", "GET")]), false), malformed);
    assert_eq!(answers(&headers(&[("x", "y"), (":method", "GET")]), false), malformed);
    assert_eq!(answers(&[], true), "reset 0x10d");
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    // 404.
    assert_eq!(answers(&headers(&get), true), "[db], true");
    let mut list = vec![(":method", "CONNECT"), (":protocol", "websocket")];
    list.extend_from_slice(&get[1..]);
    assert!(answers(&headers(&list), false).ends_with("true"), "501");
    list[1].1 = "webtransport";
    // 400.
    assert_eq!(answers(&headers(&list), false), "[ff, 04], true");
    assert!(answers(&connect(), false).ends_with("false"), "a session");
}

#[test]
fn a_second_session_and_unknown_streams_are_turned_away() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    server.hear(0, &connect(), false);
    server.take();
    server.told();
    server.hear(4, &connect(), false);
    server.hear(8, &[0x40, 0x41, 4, b'x'], false);
    server.hear(14, &[0x40, 0x54, 4, b'x'], true);
    server.hear(18, &[0x41, 0x00, b'x'], false);
    let said: Vec<String> = server.take().iter().map(|event| format!("{event:?}")).collect();
    let rejected = |verb: &str, stream: u64, code: Code| {
        format!("{verb} {{ stream: StreamId({stream}), code: {} }}", code.0)
    };
    assert_eq!(
        said,
        [
            rejected("Stop", 4, Code::REQUEST_REJECTED),
            rejected("Reset", 4, Code::REQUEST_REJECTED),
            rejected("Stop", 8, Code::BUFFERED_STREAM_REJECTED),
            rejected("Reset", 8, Code::BUFFERED_STREAM_REJECTED),
            rejected("Stop", 18, Code::STREAM_CREATION_ERROR),
        ]
    );
    assert!(server.told().is_empty());
    assert_eq!(server.closed, None);
}

#[test]
fn a_capsule_behind_the_close_is_a_malformed_message() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    server.hear(0, &connect(), false);
    server.told();
    let mut bytes = Vec::new();
    let capsule = [0x68, 0x43, 4, 0, 0, 0, 1];
    data_header(capsule.len() + 1, &mut bytes);
    bytes.extend(capsule);
    bytes.push(9);
    server.hear(0, &bytes, false);
    assert_eq!(server.told(), [r#"Closed(ByPeer { code: 0, reason: b"" })"#]);
}

#[test]
fn a_server_without_webtransport_is_not_asked() {
    let mut client = End::client(&DRAFTS);
    client.take();
    client.hear(3, &[0, 4, 2, 8, 1], false);
    assert_eq!(client.told(), [r#"Failed("the server does not offer WebTransport")"#]);
    assert!(client.take().is_empty());
    assert_eq!(client.closed, Some(Code::NO_ERROR.0));
}

#[test]
fn servers_that_are_no_http3() {
    for (stream, bytes, code) in [
        (3, &[1, 0][..], Code::ID_ERROR),
        (1, &[1, 0], Code::STREAM_CREATION_ERROR),
        (3, &[0, 4, 0, 0xd, 1, 0], Code::FRAME_UNEXPECTED),
    ] {
        let mut client = End::client(&DRAFTS);
        client.hear(stream, bytes, false);
        client.take();
        assert_eq!(client.closed, Some(code.0), "{bytes:02x?}");
    }
}

#[test]
fn a_connection_has_one_session_and_few_other_requests() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    for index in 0..u64::from(REQUESTS_MAX) {
        server.hear(4 * index, &headers(&get), true);
        server.take();
        assert_eq!(server.closed, None, "request {index}");
    }
    server.hear(4 * u64::from(REQUESTS_MAX), &headers(&get), true);
    server.take();
    assert_eq!(server.closed, Some(Code::EXCESSIVE_LOAD.0));
}

#[test]
fn streams_of_no_meaning_leave_nothing() {
    let (_, mut server) = pair(&DRAFTS);
    server.told();
    let before = server.web.inward.len();
    for index in 0..3_000 {
        // Of a reserved type.
        server.hear(6 + 4 * index, &[0x21, 1, 2, 3], false);
        assert_eq!(server.take().len(), 1, "it is stopped");
    }
    assert_eq!(server.web.inward.len(), before);
}

/// The answer of a server that accepts a session, behind one that says that it will come.
fn answer_in_two() -> Vec<u8> {
    let accepted = headers(&[(":status", "200"), ("wt-protocol", "\"moqt-22\"")]);
    [headers(&[(":status", "103"), ("link", "<a>")]), accepted].concat()
}

#[test]
fn an_answer_may_come_in_two_and_with_what_is_behind_it() {
    let mut bytes = answer_in_two();
    bytes.extend(capsule::close(7, "why"));
    for size in [bytes.len(), 1, 5] {
        let mut client = End::client(&DRAFTS);
        let settings = End::server().take();
        client.handle(settings);
        client.take();
        for piece in bytes.chunks(size) {
            client.hear(0, piece, false);
        }
        assert_eq!(
            client.told(),
            ["Connected { version: Draft22 }", r#"Closed(ByPeer { code: 7, reason: b"why" })"#],
            "in pieces of {size}"
        );
    }
}

#[test]
fn a_request_that_waits_keeps_what_came_with_it() {
    let mut server = End::server();
    server.hear(0, &[&connect()[..], &capsule::close(7, "why")].concat(), false);
    assert!(server.told().is_empty());
    server.hear(2, CONTROL, false);
    assert_eq!(
        server.told(),
        ["Connected { version: Draft18 }", r#"Closed(ByPeer { code: 7, reason: b"why" })"#]
    );
}

#[test]
fn a_request_that_waits_may_only_end() {
    let connect = connect();
    let data = [&connect[..], &[0, 3, 1]].concat();
    closes(&[(0, &data, false), (0, &[2, 3], false)], Code::EXCESSIVE_LOAD);
    closes(&[(0, &connect, false), (0, &[0], false)], Code::EXCESSIVE_LOAD);
    let mut server = End::server();
    server.hear(0, &connect, false);
    server.hear(0, &[], true);
    server.hear(2, CONTROL, false);
    assert_eq!(
        server.told(),
        ["Connected { version: Draft18 }", r#"Closed(ByPeer { code: 0, reason: b"" })"#]
    );
}

#[test]
fn one_request_waits_and_what_is_no_session_does_not() {
    let mut server = End::server();
    server.take();
    server.hear(0, &connect(), false);
    server.hear(4, &connect(), true);
    let code = Code::REQUEST_REJECTED.0;
    let said: Vec<String> = server.take().iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(said, [format!("Reset {{ stream: StreamId(4), code: {code} }}")]);
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    server.hear(8, &headers(&get), true);
    assert!(matches!(server.take()[..], [Event::Stream { stream: StreamId(8), fin: true, .. }]));
    server.hear(2, CONTROL, false);
    assert_eq!(server.told(), ["Connected { version: Draft18 }"]);
}

#[test]
fn requests_beside_a_session_are_not_read() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    let request = connect();
    server.hear(4, &request[..20], false);
    server.hear(0, &request, false);
    server.take();
    server.hear(4, &request[20..], false);
    // No frame of a request at all.
    server.hear(8, &[4, 0], true);
    let said = server.take();
    let is_rejected = |event: &&Event| match event {
        Event::Reset { code, .. } => *code == Code::REQUEST_REJECTED.0,
        _ => false,
    };
    assert_eq!(said.iter().filter(is_rejected).count(), 2, "{said:?}");
    assert_eq!(server.closed, None);
}

#[test]
fn nothing_is_heard_after_a_fault() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    // SETTINGS again, and something behind.
    server.hear(2, &[4, 0, 7, 1, 0], false);
    server.hear(2, &[7, 1, 0], false);
    server.hear(0, &connect(), false);
    server.take();
    assert!(server.told().is_empty());
    assert_eq!(server.closed, Some(Code::FRAME_UNEXPECTED.0));
}

#[test]
fn what_came_early_for_another_session_is_not_told() {
    let mut server = End::server();
    server.hear(2, CONTROL, false);
    // Ended, so that nothing is known of it but what is held.
    server.hear(10, &[0x40, 0x54, 8, b'o'], true);
    server.hear(4, &[0x40, 0x41, 8, b'o'], true);
    server.handle(vec![Event::Datagram(Bytes::from_static(&[2, b'd']))]);
    server.take();
    server.hear(0, &connect(), false);
    assert_eq!(server.told(), ["Connected { version: Draft18 }"]);
    let said: Vec<String> = server.take().iter().skip(1).map(|it| format!("{it:?}")).collect();
    let code = Code::BUFFERED_STREAM_REJECTED.0;
    assert_eq!(said, [format!("Reset {{ stream: StreamId(4), code: {code} }}")]);
    assert_eq!(server.web.early_bytes, 0);
}

#[test]
fn what_is_held_early_is_a_copy() {
    let mut server = End::server();
    let chunk = Bytes::from([&[0x40, 0x54, 0][..], &[7; 10_000]].concat());
    let stream = StreamId(6);
    let piece = chunk.slice(..10);
    server.web.handle(Event::Stream { stream, bytes: piece, fin: false }, &mut server.events);
    assert!(chunk.is_unique(), "the chunk is held");
    server.web.handle(Event::Reset { stream, code: 0 }, &mut server.events);
    assert_eq!((server.web.early.len(), server.web.early_bytes), (0, 0));
}

#[test]
fn what_is_reset_before_it_is_known_is_reset_back() {
    let (_, mut server) = pair(&DRAFTS);
    server.take();
    server.told();
    server.hear(4, &[0x40], false);
    let reset = |stream| Event::Reset { stream: StreamId(stream), code: 0x10c };
    server.handle(vec![reset(4), reset(8), reset(10)]);
    let said: Vec<String> = server.take().iter().map(|event| format!("{event:?}")).collect();
    let code = Code::REQUEST_REJECTED.0;
    let expected = |stream| format!("Reset {{ stream: StreamId({stream}), code: {code} }}");
    assert_eq!(said, [expected(4), expected(8)]);
    assert!(server.told().is_empty());
}

#[test]
fn the_driver_is_told_of_stops_of_its_own_streams_alone() {
    let (_, mut server) = pair(&DRAFTS);
    server.told();
    server.hear(4, &[0x40], false);
    server.hear(8, &[0x40, 0x41, 0, b'x'], true);
    server.hear(12, &[0x40, 0x41, 0, b'x'], false);
    server.told();
    let stop = |stream| Event::Stop { stream: StreamId(stream), code: code::to_http3(5) };
    server.handle(vec![stop(4), stop(8), stop(12), stop(7)]);
    let expected = |stream| format!("Stop {{ stream: StreamId({stream}), code: 5 }}");
    assert_eq!(server.told(), [expected(8), expected(12), expected(3)]);
}

#[test]
fn a_stop_of_the_first_request_is_none_of_connect() {
    let (mut client, mut server) = pair(&DRAFTS);
    client.told();
    client.act(Action::Stop { stream: StreamId(0), code: 1 });
    let code = SessionCode::NO_ERROR;
    let said = server.act(Action::Close { code, reason: "why".to_owned() });
    client.handle(said);
    assert_eq!(client.told(), [r#"Closed(ByPeer { code: 0, reason: b"why" })"#]);
}

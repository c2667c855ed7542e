//! How a close goes, over whatever a session runs on. The stream that one end numbers 0 is the other's
//! number `shift`: streams of HTTP/3 come before it.

use aip_codec::moqt::error_code::SessionCode;
use aip_engine::transport::{Action, Closed};

use crate::node::{Pair, client_uni, pattern, server_uni};

pub(crate) fn says_its_code_and_reason(pair: &Pair, shift: u64) {
    let bytes = pattern(1 << 20, 1);
    pair.server.send(pair.accepted, server_uni(0), bytes.clone(), true);
    let close = Action::Close { code: SessionCode::UNAUTHORIZED, reason: "go away".to_owned() };
    pair.server.act(pair.accepted, close);
    assert!(pair.client.whole_stream(pair.dialled, server_uni(shift)) == bytes);
    let expected = Closed::ByPeer { code: SessionCode::UNAUTHORIZED.0, reason: "go away".into() };
    assert_eq!(pair.client.closed(pair.dialled), expected);
    assert_eq!(pair.server.closed(pair.accepted), Closed::Locally);
}

pub(crate) fn waits_for_nobody(pair: &Pair, shift: u64) {
    pair.client.send(pair.dialled, client_uni(0), "first", false);
    pair.server.bytes(pair.accepted, client_uni(shift), 5);
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(shift) });
    pair.client.send(pair.dialled, client_uni(0), pattern(16 << 20, 1), false);
    let reason = "é".repeat(2_000);
    pair.client.act(pair.dialled, Action::Close { code: SessionCode::NO_ERROR, reason });
    assert_eq!(pair.client.closed(pair.dialled), Closed::Locally);
    let Closed::ByPeer { code: 0, reason } = pair.server.closed(pair.accepted) else {
        panic!("another end");
    };
    assert_eq!(reason, "é".repeat(512));
}

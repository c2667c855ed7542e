//! QUIC datagrams.

use std::time::{Duration, Instant};

use aip_engine::transport::Action;
use bytes::Bytes;

use crate::node::{Habits, Told, pair, pattern};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };
const ECHO: Habits = Habits { echo: true, quiet: false, drains: false };

#[test]
fn datagrams_arrive_whole() {
    let pair = pair(ECHO, PLAIN);
    for (index, length) in [0, 1, 100, 1_000, 1_100].into_iter().enumerate() {
        let bytes = Bytes::from(pattern(length, index as u64));
        pair.client.act(pair.dialled, Action::SendDatagram { bytes: bytes.clone(), expires: None });
        let echoed = pair.client.wait("a datagram", |told| match told {
            Told::Datagram(session, bytes) => Some((*session, bytes.clone())),
            _ => None,
        });
        assert_eq!(echoed, (pair.dialled, bytes));
    }
}

#[test]
fn a_datagram_that_does_not_fit_is_dropped_and_counted() {
    let pair = pair(PLAIN, PLAIN);
    for length in [1_500, 60_000] {
        let bytes = Bytes::from(pattern(length, 1));
        pair.client.act(pair.dialled, Action::SendDatagram { bytes, expires: None });
    }
    pair.client.act(pair.dialled, Action::SendDatagram { bytes: "fits".into(), expires: None });
    let bytes = pair.server.wait("a datagram", |told| match told {
        Told::Datagram(_, bytes) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes, "fits");
    pair.client.counted("two drops", |counters| counters.datagrams_dropped_total == 2);
}

#[test]
fn a_datagram_that_is_late_is_left_and_counted() {
    let pair = pair(PLAIN, PLAIN);
    let (now, hour) = (Instant::now(), Duration::from_secs(3_600));
    for (bytes, expires) in [("late", now - Duration::from_secs(1)), ("in time", now + hour)] {
        let expires = Some(expires);
        pair.client.act(pair.dialled, Action::SendDatagram { bytes: bytes.into(), expires });
    }
    let bytes = pair.server.wait("a datagram", |told| match told {
        Told::Datagram(_, bytes) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes, "in time");
    pair.client.counted("one left", |counters| counters.datagrams_late_total == 1);
}

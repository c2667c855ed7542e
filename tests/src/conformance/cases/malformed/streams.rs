//! Streams and datagrams of types that no draft has.

use super::{VIOLATION, offence};
use crate::conformance::{build, case::Case, failure::Outcome, peer::Peer};

/// Stream types that are none: names and numbers.
const STREAM_TYPES: &[(&str, u64)] = &[
    ("00", 0x00),
    ("01", 0x01),
    ("02", 0x02),
    ("03", 0x03),
    ("04", 0x04),
    ("06", 0x06),
    ("0f", 0x0f),
    ("16", 0x16),
    ("17", 0x17),
    ("1e", 0x1e),
    ("1f", 0x1f),
    ("20", 0x20),
    ("2f", 0x2f),
    ("36", 0x36),
    ("3f", 0x3f),
    ("40", 0x40),
    ("4f", 0x4f),
    ("56", 0x56),
    ("5e", 0x5e),
    ("60", 0x60),
    ("76", 0x76),
    ("7e", 0x7e),
    ("80", 0x80),
    ("90", 0x90),
    ("padding-datagram", 0x132b_3e29),
    ("max", u64::MAX),
];

/// Datagram types that are none.
const DATAGRAM_TYPES: &[(&str, u64)] = &[
    ("10", 0x10),
    ("12", 0x12),
    ("1f", 0x1f),
    ("22", 0x22),
    ("23", 0x23),
    ("26", 0x26),
    ("27", 0x27),
    ("2a", 0x2a),
    ("2b", 0x2b),
    ("2e", 0x2e),
    ("2f", 0x2f),
    ("30", 0x30),
    ("3f", 0x3f),
    ("40", 0x40),
    ("80", 0x80),
    ("padding-stream", 0x132b_3e28),
    ("max", u64::MAX),
];

/// Datagrams whose type is one, and the rest is not.
const DATAGRAMS: &[(&str, &str, &str)] = &[
    ("empty", "a datagram is not empty", ""),
    ("cut-short-type", "a datagram has a type", "80"),
    ("cut-short-alias", "a datagram has an alias", "00"),
    ("cut-short-group", "a datagram has a group", "00 07"),
    ("cut-short-object", "a datagram has an object", "00 07 01"),
    ("cut-short-priority", "a datagram has a priority", "00 07 01 01"),
    ("properties-empty", "a datagram that says so has properties", "01 07 01 01 80 00"),
    ("properties-huge", "a length is not believed", "01 07 01 01 80 ffffffffffffffffff 70"),
    ("properties-cut-short", "a property lies inside its block", "01 07 01 01 80 02 3b05"),
    ("status-missing", "a status has a value", "20 07 01 01 80"),
    ("status-1", "a status is one of three", "20 07 01 01 80 01"),
    ("status-5", "a status is one of three", "20 07 01 01 80 05"),
    ("status-properties", "a status has no properties", "21 07 01 01 80 02 0a01 03"),
    ("status-trailing-byte", "nothing stands behind a status", "20 07 01 01 80 03 00"),
];

/// Sends a datagram three times, for datagrams may be lost; not before the relay has our SETUP.
fn send(peer: &Peer, bytes: &[u8]) -> Outcome {
    peer.answers()?;
    (0..3).try_for_each(|_| peer.datagram(bytes))
}

pub(super) fn cases() -> Vec<Case> {
    let streams = STREAM_TYPES.iter().map(|(name, stream_type)| {
        let name = format!("stream-type-{name}");
        let about = "a stream of an unknown type ends the session".to_owned();
        offence(name, about, "11.3", &[VIOLATION], move |_, peer| {
            peer.unidirectional(&[build::varint(*stream_type), vec![7, 1, 0, 0]].concat());
            Ok(())
        })
    });
    let types = DATAGRAM_TYPES.iter().map(|(name, datagram_type)| {
        let name = format!("datagram-type-{name}");
        let about = "a datagram of an unknown type ends the session".to_owned();
        offence(name, about, "11.2.1", &[VIOLATION], move |_, peer| {
            send(peer, &[build::varint(*datagram_type), vec![7, 1, 1, 1, 1, 1]].concat())
        })
    });
    let datagrams = DATAGRAMS.iter().map(|(name, about, bytes)| {
        let name = format!("datagram-{name}");
        offence(name, (*about).to_owned(), "11.2.1", &[VIOLATION], move |_, peer| {
            send(peer, &build::hex(bytes))
        })
    });
    streams.chain(types).chain(datagrams).collect()
}

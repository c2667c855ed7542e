//! Subgroup streams that are cut short or contradict themselves.

use super::{FORMATTING, VIOLATION};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::Outcome,
    peer::{PATIENCE, Peer},
    stage::Stage,
};

/// Name, what is wrong, the stream (alias 7), whether FIN follows.
type Row = (&'static str, &'static str, &'static str, bool);

// 0x14: explicit subgroup and priority. 0x30: subgroup 0, no priority; 0x31: with properties.
const STREAMS: &[Row] = &[
    ("header-cut-short-alias", "a header is whole", "14", true),
    ("header-cut-short-group", "a header is whole", "14 07", true),
    ("header-cut-short-subgroup", "a header is whole", "14 07 01", true),
    ("header-cut-short-priority", "a header is whole", "14 07 01 00", true),
    ("object-cut-short-id", "an object is whole", "30 07 01 80", true),
    ("object-cut-short-length", "an object is whole", "30 07 01 00", true),
    ("object-cut-short-payload", "an object is whole", "30 07 01 00 05 6162", true),
    ("object-cut-short-status", "an object is whole", "30 07 01 00 00", true),
    ("object-cut-short-properties", "an object is whole", "31 07 01 00 05 3b", true),
    (
        "object-payload-huge",
        "a payload's length is not believed",
        "30 07 01 00 ffffffffffffffffff 61",
        true,
    ),
    (
        "object-id-overflow",
        "an object's number has 64 bits",
        "30 07 01 ffffffffffffffffff 0161 00 0162",
        false,
    ),
    ("object-status-1", "a status is one of three", "30 07 01 00 00 01", false),
    ("object-status-2", "a status is one of three", "30 07 01 00 00 02", false),
    ("object-status-5", "a status is one of three", "30 07 01 00 00 05", false),
    ("object-status-max", "a status is one of three", "30 07 01 00 00 ffffffffffffffffff", false),
    ("object-status-properties", "a status has no properties", "31 07 01 00 02 0a01 00 03", false),
    (
        "object-properties-cut-short",
        "a property lies inside its block",
        "31 07 01 00 02 3b05 0161",
        false,
    ),
    (
        "object-properties-overflow",
        "a property's type has 64 bits",
        "31 07 01 00 0c 0201 ffffffffffffffffff 01 0161",
        false,
    ),
];

pub(super) fn cases() -> Vec<Case> {
    STREAMS
        .iter()
        .map(|(name, about, bytes, fin)| {
            case(format!("malformed-{name}"), *about, "11.3.1", move |stage| {
                let (peer, innocent) = live(stage)?;
                let stream = peer.unidirectional(&build::hex(bytes));
                if *fin {
                    peer.finish(stream);
                }
                let codes: &[u64] = if name.contains("properties") {
                    &[VIOLATION, FORMATTING]
                } else {
                    &[VIOLATION]
                };
                peer.closes_with(codes, PATIENCE)?;
                innocent.answers()
            })
            .hostile()
        })
        .collect()
}

/// A session that publishes a track by alias 7, and one that subscribes to it.
fn live(stage: &Stage<'_>) -> Outcome<(Peer, Peer)> {
    let peer = stage.session()?;
    let track = stage.track("t");
    let publish = peer.request(&build::publish(peer.request_id(), &track, 7));
    peer.ok(publish)?;
    let innocent = stage.session()?;
    let id = innocent.request_id();
    let stream = innocent.request(&build::subscribe(id, &track, build::none()));
    innocent.subscribe_ok(stream)?;
    Ok((peer, innocent))
}

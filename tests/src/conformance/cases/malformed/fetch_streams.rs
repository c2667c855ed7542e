//! Answers to a FETCH of the relay's whose stream is spoilt.

use aip_codec::moqt::message::Message;

use super::VIOLATION;
use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome},
    peer::{Heard, PATIENCE, name},
    stage::Stage,
};

/// Name, what is wrong, the records behind the header, whether FIN follows, drafts.
type Row = (&'static str, &'static str, &'static str, bool, std::ops::RangeInclusive<u8>);

const STREAMS: &[Row] = &[
    ("first-without-group", "the first record says its group", "14 00 80 0161", false, 18..=22),
    ("first-without-object", "the first record says its object", "18 01 80 0161", false, 18..=22),
    (
        "first-prior-subgroup",
        "the first record has no prior subgroup",
        "1d 01 00 80 0161",
        false,
        18..=22,
    ),
    (
        "first-next-subgroup",
        "the first record has no prior subgroup",
        "1e 01 00 80 0161",
        false,
        18..=22,
    ),
    (
        "first-prior-priority",
        "the first record has no prior priority",
        "0c 01 00 0161",
        false,
        18..=22,
    ),
    ("flags-80", "serialization flags are known", "8080 01 00", false, 18..=22),
    ("flags-8d", "serialization flags are known", "808d 01 00", false, 18..=22),
    ("flags-max", "serialization flags are known", "ffffffffffffffffff 01 00", false, 18..=22),
    ("flags-20c", "drafts before 20 have no timed-out range", "820c 05 00", false, 18..=19),
    (
        "group-overflow",
        "a group has 64 bits",
        "1c 01 00 80 0161 08 ffffffffffffffffff 0161",
        false,
        18..=22,
    ),
    (
        "object-overflow",
        "an object has 64 bits",
        "1c 01 05 80 0161 04 ffffffffffffffffff 0161",
        false,
        18..=22,
    ),
    ("not-ascending", "objects of a group ascend", "1c 01 05 80 0161 04 00 0161", false, 18..=22),
    ("record-cut-short", "a record is whole", "1c 01 00 80 05 6162", true, 18..=22),
    (
        "payload-huge",
        "a payload's length is not believed",
        "1c 01 00 80 ffffffffffffffffff 61",
        true,
        18..=22,
    ),
];

pub(super) fn cases() -> Vec<Case> {
    STREAMS
        .iter()
        .map(|(name, about, records, fin, drafts)| {
            case(format!("malformed-fetch-stream-{name}"), *about, "11.4.1", move |stage| {
                spoilt(stage, &build::hex(records), *fin)
            })
            .hostile()
            .drafts(drafts.clone())
        })
        .collect()
}

fn spoilt(stage: &Stage<'_>, records: &[u8], fin: bool) -> Outcome {
    let (offender, _) = stage.publisher()?;
    let innocent = stage.session()?;
    let id = innocent.request_id();
    let (start, end) = (build::at(1, 0), build::at(9, 9));
    let fetch = build::fetch(innocent.version, id, &stage.track("t"), start, end, build::none());
    let asked = innocent.request(&fetch);
    let (stream, fetch) = offender.fetched_from()?;
    offender.say(stream, &build::fetch_ok(stage.version, build::at(9, 9), false));
    let header = [vec![5], build::varint(fetch.request_id.0)].concat();
    let data = offender.unidirectional(&[&header[..], records].concat());
    if fin {
        offender.finish(data);
    }
    offender.closes_with(&[VIOLATION], PATIENCE)?;
    match innocent.heard(asked)? {
        Heard::Message(Message::FetchOk(_) | Message::RequestError(_)) | Heard::End(_) => {
            innocent.answers()
        }
        Heard::Message(other) => Err(Failure::new("an answer to FETCH", name(&other))),
    }
}

//! What is unusual and allowed: a relay must not mind.

use aip_codec::moqt::{
    datagram::Datagram,
    error_code::RequestCode,
    message::Message,
    parameter::Parameter,
    property::Properties,
    stream::subgroup::{SubgroupHeader, SubgroupMode},
};
use bytes::Bytes;

use super::{
    control::refused_or_ok,
    malformed::requests::{Kind, Parts},
};
use crate::conformance::{
    build,
    case::{Case, case},
    data::Subgroup,
    failure::{Failure, Outcome, ensure},
    peer::{Heard, PATIENCE, Peer, name},
    stage::{ALIAS, Stage},
};

#[expect(clippy::too_many_lines, reason = "a table, one entry a case")]
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let name = format!("lenient-{}-in-pieces", kind.name());
            case(name, "a request may come a few bytes at a time", "9", move |stage| {
                let peer = stage.session()?;
                let frame = Parts::new(kind, peer.version, peer.request_id().0).frame();
                let stream = peer.bidirectional(&frame[..1]);
                for piece in frame[1..].chunks(5) {
                    pass_time(&peer)?;
                    peer.send(stream, piece);
                }
                refused_or_ok(&peer, stream)
            })
        })
        .collect();
    cases.extend([
        case(
            "lenient-ids-descending",
            "request ids may arrive in any order (W6)",
            "6.4.2.1",
            ids_descending,
        ),
        case(
            "lenient-all-before-setup",
            "every request, and data, in front of SETUP: answered or reset, the session goes on (W8)",
            "6.4",
            all_before_setup,
        ),
        case(
            "lenient-setup-large",
            "SETUP may have 65,535 bytes of options that nobody knows (W5)",
            "9.1",
            setup_large,
        ),
        case(
            "lenient-subgroup-types",
            "each of the 48 types of a subgroup's stream is understood (W9)",
            "11.3.1",
            subgroup_types,
        ),
        case(
            "lenient-datagram-types",
            "each of the 24 types of a datagram is understood (W9)",
            "11.2.1",
            datagram_types,
        ),
        case(
            "lenient-header-only",
            "a subgroup's stream may end behind its header",
            "11.3.1",
            header_only,
        ),
        case(
            "lenient-padding",
            "padding may come at any time, end in any way, and hold anything (W9)",
            "11.5",
            padding,
        ),
        case(
            "lenient-grease-properties",
            "properties that nobody knows are passed on, of tracks and of objects (W5, R28)",
            "8.4",
            grease_properties,
        ),
        case(
            "lenient-unknown-codes",
            "codes that nobody knows end what they are about, no session (W5)",
            "12",
            unknown_codes,
        ),
        case(
            "lenient-tokens",
            "tokens may be registered, used, deleted and registered again",
            "8.9",
            tokens,
        ),
        case(
            "lenient-goaway-then-requests",
            "what was asked before GOAWAY goes on after it",
            "6.6.1",
            goaway_goes_on,
        ),
        case(
            "lenient-publish-again",
            "a track may be published again when it is done, by the same alias",
            "9.9",
            publish_again,
        ),
        case(
            "lenient-data-after-done",
            "objects may come after PUBLISH_DONE was sent, and for a subscription that is over",
            "3.1.2",
            data_after_done,
        ),
    ]);
    cases
}

/// Lets one turn of the network pass, so that what is sent next is in a packet of its own.
fn pass_time(peer: &Peer) -> Outcome {
    let mut turns = 0;
    peer.until("time to pass", |_| {
        turns += 1;
        (1 < turns).then_some(())
    })
}

fn objects(list: &[Subgroup]) -> usize {
    list.iter().map(|it| it.objects.len()).sum()
}

fn ids_descending(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let ids: Vec<u64> = (0..50).map(|_| peer.request_id().0).collect();
    for id in ids.into_iter().rev() {
        let id = aip_codec::moqt::id::RequestId(id);
        let stream = peer.request(&build::track_status(id, &build::nobodys_track()));
        refused_or_ok(&peer, stream)?;
    }
    peer.answers()
}

fn all_before_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let streams: Vec<u64> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let id = peer.request_id().0;
            peer.bidirectional(&Parts::new(kind, peer.version, id).frame())
        })
        .collect();
    // The stream of a track that nobody published; then SETUP, and one more request behind it.
    let mut subgroup = build::Subgroup::new(4_711, 0, 0).object(0, b"early");
    let data = peer.unidirectional(&subgroup.take());
    peer.finish(data);
    peer.datagram(&build::hex("00 9267 01 02 03 70"))?;
    peer.unidirectional(&build::frame(0x2f00, &[]));
    peer.await_setup()?;
    for stream in streams {
        // An answer, or a stream that was reset: both will do.
        peer.heard(stream)?;
    }
    peer.answers()
}

fn setup_large(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let mut body = Vec::new();
    // Option 0x17d9 and then it again, each of 30,000 bytes; and many of one byte.
    for delta in [0x17d9, 0] {
        body.extend([build::varint(delta), build::varint(30_000), vec![b'x'; 30_000]].concat());
    }
    while body.len() + 3 <= 65_535 {
        body.extend([2, 1, b'y']);
    }
    let bytes = build::frame(0x2f00, &body);
    let control = peer.unidirectional(&bytes[..40_000]);
    peer.send(control, &bytes[40_000..]);
    peer.await_setup()?;
    peer.answers()
}

/// A stream's type, and the bytes of one object in a group of its own.
fn subgroup_types(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let types: Vec<u8> =
        (0x10..0x80_u8).filter(|flags| flags & 0x10 != 0 && flags & 0x06 != 0x06).collect();
    for &flags in &types {
        let mut bytes = vec![flags];
        bytes.extend(build::varint(ALIAS));
        bytes.extend(build::varint(u64::from(flags)));
        if flags & 0x06 == 0x04 {
            bytes.push(5);
        }
        if flags & 0x20 == 0 {
            bytes.push(77);
        }
        bytes.push(3);
        if flags & 0x01 != 0 {
            bytes.push(0);
        }
        bytes.extend([1, flags]);
        let stream = live.publisher.unidirectional(&bytes);
        live.publisher.finish(stream);
    }
    let all = format!("an object of each of {} types", types.len());
    let came = live.subscriber.await_subgroups(live.alias(), &all, |list| {
        objects(list) == types.len() && list.iter().all(|it| it.end.is_some())
    })?;
    for flags in types {
        let subgroup = match flags & 0x06 {
            0x00 => 0,
            0x02 => 3,
            _ => 5,
        };
        let same = came.iter().find(|it| it.group() == u64::from(flags)).is_some_and(|it| {
            let priority = it.header.priority.unwrap_or(128);
            let payload = it.objects.first().map(|object| object.payload.clone());
            it.number() == subgroup
                && it.numbers() == [3]
                && priority == if flags & 0x20 == 0 { 77 } else { 128 }
                && payload.as_deref() == Some(&[flags])
                && it.header.end_of_group == (flags & 0x08 != 0)
        });
        ensure(same, format!("type 0x{flags:x}: the object as it was sent"), &came)?;
    }
    Ok(())
}

fn datagram_types(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let statuses = [0x20, 0x21, 0x24, 0x25, 0x28, 0x29, 0x2c, 0x2d];
    for (group, flags) in (1_u8..).zip((0x00..0x10_u8).chain(statuses)) {
        let mut bytes = vec![flags];
        bytes.extend(build::varint(ALIAS));
        bytes.push(group);
        if flags & 0x04 == 0 {
            bytes.push(9);
        }
        if flags & 0x08 == 0 {
            bytes.push(77);
        }
        if flags & 0x01 != 0 {
            // Property 0x3802: 1.
            bytes.extend([4, 0xb8, 0x02, 0x80, 0x01]);
        }
        // Normal, which alone may have properties; or a payload.
        bytes.push(if flags & 0x20 == 0 { b'x' } else { 0 });
        live.publisher.datagram(&bytes)?;
        let came = live.subscriber.object_datagram(PATIENCE)?;
        let object = if flags & 0x04 == 0 { 9 } else { 0 };
        let priority = came.priority.unwrap_or(128);
        let same = came.group.0 == u64::from(group)
            && came.object.0 == object
            && priority == if flags & 0x08 == 0 { 77 } else { 128 }
            && came.end_of_group == (flags & 0x02 != 0)
            && came.properties.integer(0x3802) == (flags & 0x01 != 0).then_some(1);
        ensure(same, format!("type 0x{flags:x}: the object as it was sent"), came)?;
    }
    live.publisher.answers()
}

fn header_only(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let ended = live.publisher.unidirectional(&build::Subgroup::new(ALIAS, 1, 0).take());
    live.publisher.finish(ended);
    let reset = live.publisher.unidirectional(&build::Subgroup::new(ALIAS, 2, 0).take());
    live.publisher.answers()?;
    live.publisher.reset(reset, 1);
    let mode = SubgroupMode::FirstObject;
    let header = SubgroupHeader { subgroup: mode, ..build::Subgroup::new(ALIAS, 3, 0).header };
    let unnumbered = live.publisher.unidirectional(&build::Subgroup::with(header).take());
    live.publisher.finish(unnumbered);
    live.publisher.answers()?;
    let next = live
        .publisher
        .unidirectional(&build::Subgroup::new(ALIAS, 4, 0).object(0, b"and on").take());
    live.publisher.finish(next);
    live.subscriber.await_subgroups(live.alias(), "the object after", |it| objects(it) == 1)?;
    live.publisher.answers()
}

fn padding(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let begin = build::hex("f0132b3e28");
    peer.unidirectional(&[&begin[..], &[0; 3_000]].concat());
    peer.unidirectional(&build::frame(0x2f00, &[]));
    peer.await_setup()?;
    let empty = peer.unidirectional(&begin);
    peer.finish(empty);
    let reset = peer.unidirectional(&[&begin[..], &[0; 100]].concat());
    peer.answers()?;
    peer.reset(reset, 0x7f * 9 + 0x9d);
    // A receiver throws it away whatever it is.
    let other = peer.unidirectional(&[&build::wide(0x132b_3e28)[..], &[7; 2_000]].concat());
    peer.finish(other);
    for bytes in ["f0132b3e29", "f0132b3e29 00", "ff00000000132b3e29 070707"] {
        peer.datagram(&build::hex(bytes))?;
    }
    peer.answers()
}

/// Integers and bytes of types that are for being ignored, far apart.
fn grease() -> Properties {
    let even = |index: u64| 0x7f * (2 * index + 1) + 0x9d;
    let builder = Properties::builder()
        .integer(even(0), 0)
        .integer(even(3), u64::MAX)
        .bytes(0x7f * 100 + 0x9d, Bytes::new())
        .bytes(0x7f * 102 + 0x9d, vec![0xff; 300])
        .integer(u64::MAX - 1, 1)
        .bytes(u64::MAX, &b"last"[..]);
    builder.build().unwrap_or_default()
}

fn grease_properties(stage: &Stage<'_>) -> Outcome {
    let sent = grease();
    assert!(!sent.is_empty(), "the types ascend");
    let live = stage.live_with(build::none(), build::none(), sent.clone())?;
    let same = live.ok.properties.iter().eq(sent.iter());
    ensure(same, "the track's properties as they were", &live.ok.properties)?;
    let header = SubgroupHeader { properties: true, ..build::Subgroup::new(ALIAS, 1, 0).header };
    let mut subgroup = build::Subgroup::with(header).object_with(0, b"x", sent.clone());
    live.publisher.unidirectional(&subgroup.take());
    let came =
        live.subscriber.await_subgroups(live.alias(), "the object", |it| objects(it) == 1)?;
    let came = Properties::decode_object(came[0].objects[0].properties.clone());
    let same = came.as_ref().is_ok_and(|came| came.iter().eq(sent.iter()));
    ensure(same, "the object's properties as they were", came)
}

fn unknown_codes(stage: &Stage<'_>) -> Outcome {
    const UNKNOWN: u64 = 0x7f * 5 + 0x9d;
    let live = stage.live(build::none())?;
    let begin = |group| build::Subgroup::new(ALIAS, group, 0).object(0, b"x").take();
    let reset = live.publisher.unidirectional(&begin(1));
    let came =
        live.subscriber.await_subgroups(live.alias(), "the object", |it| objects(it) == 1)?;
    live.subscriber.stop(came[0].stream, UNKNOWN);
    live.publisher.reset(reset, UNKNOWN);
    let watched = live.subscriber.request_id();
    let watch = build::subscribe_namespace(watched, &stage.namespace);
    let watch = live.subscriber.request(&watch);
    live.subscriber.ok(watch)?;
    live.subscriber.reset(watch, UNKNOWN);
    live.subscriber.stop(watch, UNKNOWN);
    live.subscriber.answers()?;
    // A status that is none of the draft's, and a stream count that is none.
    let body = [build::varint(UNKNOWN), build::varint(1), vec![0]].concat();
    live.publisher.send(live.upstream, &build::frame(0x0b, &body));
    live.publisher.finish(live.upstream);
    // A relay may ask again, since it cannot know that the track is over: it is told.
    let heard = live.subscriber.until("the subscription's end", |subscriber| {
        if let Ok((stream, _)) = live.publisher.incoming_within(std::time::Duration::ZERO) {
            live.publisher.say(stream, &build::request_error(RequestCode::DOES_NOT_EXIST));
        }
        subscriber.heard_within(live.downstream, std::time::Duration::ZERO).ok()
    })?;
    match heard {
        Heard::Message(Message::PublishDone(_)) | Heard::End(_) => {}
        Heard::Message(other) => return Err(Failure::new("PUBLISH_DONE", name(&other))),
    }
    live.publisher.answers()?;
    live.subscriber.answers()
}

fn tokens(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    if peer.relays_setup().max_auth_token_cache_size < 64 {
        // A relay that keeps no tokens allows no aliases.
        return Ok(());
    }
    // REGISTER 9, USE_ALIAS 9, DELETE 9, REGISTER 9 again; and a value used once.
    let blocks =
        ["01 03 06 0109007a7a7a", "01 03 02 0209", "01 03 02 0009", "01 03 06 0109007a7a7b"];
    for block in blocks.into_iter().chain(["01 03 04 03007a7a"]) {
        let mut parts = Parts::new(Kind::TrackStatus, peer.version, peer.request_id().0);
        parts.parameters = build::hex(block);
        let stream = peer.bidirectional(&parts.frame());
        refused_or_ok(&peer, stream)?;
    }
    peer.answers()
}

fn goaway_goes_on(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.subscriber.say(Peer::CONTROL, &build::goaway(stage.version, "", true));
    live.publisher.answers()?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"still here");
    live.publisher.unidirectional(&subgroup.take());
    live.subscriber.await_subgroups(live.alias(), "the object", |it| objects(it) == 1).map(drop)
}

fn publish_again(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    for _ in 0..3 {
        let publish = build::publish(peer.request_id(), &stage.track("t"), ALIAS);
        let stream = peer.request(&publish);
        peer.ok(stream)?;
        let code = aip_codec::moqt::error_code::PublishDoneCode::TRACK_ENDED;
        peer.say(stream, &build::publish_done(code, Some(0)));
        peer.finish(stream);
        peer.answers()?;
    }
    Ok(())
}

fn data_after_done(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.subscriber.reset(live.downstream, 1);
    live.subscriber.stop(live.downstream, 1);
    live.subscriber.answers()?;
    let code = aip_codec::moqt::error_code::PublishDoneCode::TRACK_ENDED;
    live.publisher.say(live.upstream, &build::publish_done(code, Some(1)));
    live.publisher.finish(live.upstream);
    let mut late = build::Subgroup::new(ALIAS, 1, 0).object(0, b"late");
    let stream = live.publisher.unidirectional(&late.take());
    live.publisher.finish(stream);
    live.publisher.datagram(&build::hex("00 07 01 02 03 70"))?;
    live.publisher.answers()?;
    let id = live.subscriber.request_id();
    let waits = build::with(Parameter::RendezvousTimeout(0));
    let stream = live.subscriber.request(&build::subscribe(id, &build::nobodys_track(), waits));
    live.subscriber.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    // Whatever it is: a datagram that came is one.
    if let Ok(bytes) = live.subscriber.next_datagram(std::time::Duration::ZERO) {
        Datagram::decode(bytes).map_err(|it| Failure::new("a datagram", it.to_string()))?;
    }
    live.subscriber.answers()
}

//! Objects on their way: subgroups, datagrams, properties, ends; and tracks gone bad.

use aip_codec::moqt::{
    datagram::{Content, ObjectDatagram},
    error_code::{PublishDoneCode, RequestCode},
    id::{GroupId, ObjectId, SubgroupId, TrackAlias},
    parameter::{GroupOrder, Parameter},
    property::Properties,
    stream::subgroup::{ObjectStatus, SubgroupHeader, SubgroupMode},
};
use bytes::{Bytes, BytesMut};

use crate::conformance::{
    build,
    case::{Case, case},
    data::Subgroup,
    failure::{Failure, Outcome, ensure},
    peer::PATIENCE,
    quic::End,
    stage::{ALIAS, Live, Stage},
};

#[expect(clippy::too_many_lines, reason = "a table, one entry a case")]
pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "data-subgroup",
            "a subgroup's objects arrive once, in order, unchanged (R8, R9)",
            "11.3.1",
            subgroup,
        ),
        case(
            "data-subgroup-finished",
            "FIN of a subgroup reaches the subscriber",
            "11.3.1",
            finished,
        ),
        case(
            "data-subgroup-reset",
            "a subgroup that is reset upstream is reset downstream",
            "11.3.1",
            reset,
        ),
        case(
            "data-subgroups-of-a-group",
            "two subgroups of a group stay apart",
            "11.3.1",
            subgroups,
        ),
        case(
            "data-groups-reversed",
            "groups arrive in whatever order they come",
            "11.3.1",
            reversed,
        ),
        case(
            "data-subgroup-modes",
            "each way to state a subgroup gives the same number",
            "11.3.1",
            modes,
        ),
        case("data-priorities", "publisher priorities are passed on", "11.3.1", priorities),
        case("data-end-of-group", "END_OF_GROUP of a header is passed on", "11.3.1", end_of_group),
        case(
            "data-statuses",
            "the statuses End of Group and End of Track are passed on",
            "11.1.1",
            statuses,
        ),
        case(
            "data-object-properties",
            "object properties are passed on unchanged (R28)",
            "11.1.2",
            object_properties,
        ),
        case("data-empty-payload", "an object may be empty", "11.3.1", empty_payload),
        case("data-large-object", "an object of a megabyte arrives whole", "11.3.1", large_object),
        case(
            "data-object-in-two-parts",
            "an object that comes in two parts arrives whole",
            "7.8",
            two_parts,
        ),
        case(
            "data-big-numbers",
            "groups, subgroups and objects have 64 bits",
            "11.3.1",
            big_numbers,
        ),
        case("data-gaps", "gaps in object numbers stay as they are", "11.3.1", gaps),
        case("data-many-groups", "a hundred groups arrive, none missing", "7.8", many_groups),
        case(
            "data-first-burst",
            "the first objects reach every subscriber that was accepted",
            "7.8",
            first_burst,
        ),
        case("data-fan-out", "ten subscribers get the same objects", "7.8", fan_out),
        case(
            "data-first-object-flag",
            "FIRST_OBJECT is set from the first object on (R12)",
            "11.3.1",
            first_object_flag,
        ),
        case(
            "data-joined-midway",
            "who joins inside a subgroup sees its number and no FIRST_OBJECT (R12)",
            "11.3.1",
            joined_midway,
        ),
        case(
            "data-stop-one-stream",
            "STOP_SENDING of one stream leaves the others be (R35)",
            "11.3.2",
            stop_one_stream,
        ),
        case("data-datagram", "an object in a datagram arrives as it was sent", "11.2.1", datagram),
        case(
            "data-datagram-properties",
            "a datagram's properties are passed on",
            "11.2.1",
            datagram_properties,
        ),
        case("data-datagram-status", "a datagram's status is passed on", "11.2.1", datagram_status),
        case(
            "data-datagram-end-of-group",
            "a datagram's END_OF_GROUP is passed on",
            "11.2.1",
            datagram_end_of_group,
        ),
        case("data-mixed", "a track may have both subgroups and datagrams", "2.1", mixed),
        case("data-padding", "padding is thrown away", "11.5", padding),
        case(
            "data-unknown-alias",
            "data of an unknown alias is no fault",
            "3.1.3.1",
            unknown_alias,
        )
        .hostile(),
        case(
            "data-two-publishers",
            "an object of two publishers arrives once (R21)",
            "7.3",
            two_publishers,
        ),
        case(
            "data-done-counts-streams",
            "PUBLISH_DONE comes after the streams it counts (R36)",
            "9.9",
            done_counts,
        ),
    ];
    cases.extend(bad_tracks());
    cases
}

fn all(list: &[Subgroup]) -> usize {
    list.iter().map(|it| it.objects.len()).sum()
}

/// Sends whole subgroup streams, FIN included.
fn send(live: &Live, subgroups: impl IntoIterator<Item = build::Subgroup>) {
    for mut subgroup in subgroups {
        let stream = live.publisher.unidirectional(&subgroup.take());
        live.publisher.finish(stream);
    }
}

fn subgroup(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let payloads: Vec<Vec<u8>> = (0..20u8).map(|it| vec![it; usize::from(it) * 97]).collect();
    let mut subgroup = build::Subgroup::new(ALIAS, 5, 2);
    for (object, payload) in (0..).zip(&payloads) {
        subgroup = subgroup.object(object, payload);
    }
    send(&live, [subgroup]);
    let came = live.subscriber.await_subgroups(live.alias(), "20 objects", |it| all(it) == 20)?;
    let came = came.first().ok_or_else(|| Failure::new("one subgroup", "none"))?;
    let same = came.objects.iter().map(|it| &it.payload).eq(payloads.iter());
    ensure(same && came.numbers().into_iter().eq(0..20), "the objects as sent", &came.objects)?;
    ensure((came.group(), came.number()) == (5, 2), "group 5, subgroup 2", came.header)
}

fn finished(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, [build::Subgroup::new(ALIAS, 5, 0).object(0, b"x")]);
    live.subscriber
        .await_subgroups(live.alias(), "FIN", |list| {
            list.iter().any(|it| it.end == Some(End::Finished))
        })
        .map(drop)
}

fn reset(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut subgroup = build::Subgroup::new(ALIAS, 5, 0).object(0, b"x");
    let stream = live.publisher.unidirectional(&subgroup.take());
    live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    live.publisher.reset(stream, 2);
    live.subscriber
        .await_subgroups(live.alias(), "RESET_STREAM", |list| {
            list.iter().any(|it| matches!(it.end, Some(End::Reset(_))))
        })
        .map(drop)
}

fn subgroups(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, (0..3).map(|it| build::Subgroup::new(ALIAS, 9, it).object(it, b"x")));
    let came = live.subscriber.await_subgroups(live.alias(), "3 objects", |it| all(it) == 3)?;
    let mut numbers: Vec<_> = came.iter().map(|it| (it.number(), it.numbers())).collect();
    numbers.sort();
    ensure(numbers == [(0, vec![0]), (1, vec![1]), (2, vec![2])], "3 subgroups", numbers)
}

fn reversed(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, (1..=8).rev().map(|it| build::Subgroup::new(ALIAS, it, 0).object(0, b"x")));
    let came = live.subscriber.await_subgroups(live.alias(), "8 groups", |it| all(it) == 8)?;
    let mut groups: Vec<u64> = came.iter().map(Subgroup::group).collect();
    groups.sort_unstable();
    ensure(groups.into_iter().eq(1..=8), "groups 1 to 8", "others")
}

fn header(group: u64, subgroup: SubgroupMode) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: TrackAlias(ALIAS),
        group: GroupId(group),
        subgroup,
        priority: Some(128),
        properties: false,
        end_of_group: false,
        first_object: true,
    }
}

fn modes(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let modes =
        [SubgroupMode::Zero, SubgroupMode::FirstObject, SubgroupMode::Explicit(SubgroupId(300))];
    send(
        &live,
        (0..).zip(modes).map(|(group, mode)| {
            build::Subgroup::with(header(group, mode)).object(4, b"x").object(5, b"y")
        }),
    );
    let came = live.subscriber.await_subgroups(live.alias(), "6 objects", |it| all(it) == 6)?;
    let mut numbers: Vec<_> = came.iter().map(|it| (it.group(), it.number())).collect();
    numbers.sort_unstable();
    ensure(numbers == [(0, 0), (1, 4), (2, 300)], "subgroups 0, 4 and 300", numbers)
}

fn priorities(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let given = [None, Some(0), Some(255)];
    send(
        &live,
        (0..).zip(given).map(|(group, priority)| {
            let header = SubgroupHeader { priority, ..header(group, SubgroupMode::Zero) };
            build::Subgroup::with(header).object(0, b"x")
        }),
    );
    let mut came = live.subscriber.await_subgroups(live.alias(), "3 objects", |it| all(it) == 3)?;
    came.sort_by_key(Subgroup::group);
    // The track states no default, so that it is 128 either way.
    let told: Vec<_> = came.iter().map(|it| it.header.priority.unwrap_or(128)).collect();
    ensure(told == [128, 0, 255], "priorities 128, 0 and 255", told)
}

fn end_of_group(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let header = SubgroupHeader { end_of_group: true, ..header(3, SubgroupMode::Zero) };
    send(&live, [build::Subgroup::with(header).object(0, b"x")]);
    let came = live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    ensure(came.iter().all(|it| it.header.end_of_group), "END_OF_GROUP", &came)
}

fn statuses(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let first = build::Subgroup::new(ALIAS, 1, 0).object(0, b"x");
    let second = build::Subgroup::new(ALIAS, 2, 0).object(0, b"x");
    send(
        &live,
        [first.status(1, ObjectStatus::EndOfGroup), second.status(1, ObjectStatus::EndOfTrack)],
    );
    let mut came = live.subscriber.await_subgroups(live.alias(), "4 objects", |it| all(it) == 4)?;
    came.sort_by_key(Subgroup::group);
    let told: Vec<_> = came.iter().filter_map(|it| it.objects.last()).map(|it| it.status).collect();
    ensure(
        told == [ObjectStatus::EndOfGroup, ObjectStatus::EndOfTrack],
        "End of Group, then End of Track",
        told,
    )
}

fn some_properties() -> Properties {
    // An application's, grease, and an immutable block of an unknown one: none by which a relay may
    // drop or delay the object.
    let properties = Properties::builder().integer(0x3802, 1 << 40).bytes(0x3805, &b"opaque"[..]);
    let properties = properties.bytes(0x0b, &[0x3a, 0x01][..]).integer(0x9d + 0x7f, 3);
    properties.build().unwrap_or_default()
}

fn object_properties(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let properties = some_properties();
    let header = SubgroupHeader { properties: true, ..header(1, SubgroupMode::Zero) };
    let subgroup = build::Subgroup::with(header)
        .object_with(0, b"x", properties.clone())
        .object_with(1, b"y", Properties::empty());
    send(&live, [subgroup]);
    let came = live.subscriber.await_subgroups(live.alias(), "2 objects", |it| all(it) == 2)?;
    let told: Vec<_> =
        came.iter().flat_map(|it| &it.objects).map(|it| it.properties.clone()).collect();
    ensure(told == [properties.as_bytes().clone(), Bytes::new()], "the properties as sent", told)
}

fn empty_payload(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(0, b"").object(1, b"x")]);
    let came = live.subscriber.await_subgroups(live.alias(), "2 objects", |it| all(it) == 2)?;
    let lengths: Vec<_> =
        came.iter().flat_map(|it| &it.objects).map(|it| it.payload.len()).collect();
    ensure(lengths == [0, 1], "payloads of 0 and 1 bytes", lengths)
}

fn large_object(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let payload: Vec<u8> =
        (0..1_000_000u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(0, &payload)]);
    let came = live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    let same = came.iter().flat_map(|it| &it.objects).all(|it| it.payload == payload);
    ensure(same, "the same bytes", "others")
}

fn two_parts(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, &[b'p'; 3_000]);
    let bytes = subgroup.take();
    let stream = live.publisher.unidirectional(&bytes[..1_500]);
    live.publisher.answers()?;
    live.publisher.send(stream, &bytes[1_500..]);
    live.publisher.finish(stream);
    live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1).map(drop)
}

fn big_numbers(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let big = u64::MAX - 9;
    send(&live, [build::Subgroup::new(ALIAS, big, big).object(big, b"x").object(big + 9, b"y")]);
    let came = live.subscriber.await_subgroups(live.alias(), "2 objects", |it| all(it) == 2)?;
    let told: Vec<_> = came.iter().map(|it| (it.group(), it.number(), it.numbers())).collect();
    ensure(told == [(big, big, vec![big, big + 9])], "the numbers as sent", told)
}

fn gaps(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(3, b"x").object(200, b"y")]);
    let came = live.subscriber.await_subgroups(live.alias(), "2 objects", |it| all(it) == 2)?;
    let numbers: Vec<_> = came.iter().flat_map(Subgroup::numbers).collect();
    ensure(numbers == [3, 200], "objects 3 and 200", numbers)
}

fn many_groups(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, (0..100).map(|it| build::Subgroup::new(ALIAS, it, 0).object(0, &[1; 300])));
    let came = live.subscriber.await_subgroups(live.alias(), "100 groups", |it| all(it) == 100)?;
    let mut groups: Vec<u64> = came.iter().map(Subgroup::group).collect();
    groups.sort_unstable();
    ensure(groups.into_iter().eq(0..100), "groups 0 to 99", "others")
}

fn first_burst(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut others = Vec::new();
    for _ in 0..4 {
        let peer = stage.session()?;
        let id = peer.request_id();
        let stream = peer.request(&build::subscribe(id, &live.track, build::none()));
        let alias = peer.subscribe_ok(stream)?.track_alias.0;
        others.push((peer, alias));
    }
    send(&live, (0..5).map(|it| build::Subgroup::new(ALIAS, it, 0).object(0, b"first")));
    live.subscriber.await_subgroups(live.alias(), "5 objects", |it| all(it) == 5)?;
    others.iter().try_for_each(|(peer, alias)| {
        peer.await_subgroups(*alias, "5 objects", |it| all(it) == 5).map(drop)
    })
}

fn fan_out(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut others = Vec::new();
    for _ in 0..9 {
        let peer = stage.session()?;
        let id = peer.request_id();
        let stream = peer.request(&build::subscribe(id, &live.track, build::none()));
        let alias = peer.subscribe_ok(stream)?.track_alias.0;
        others.push((peer, alias));
    }
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0);
    for object in 0..50 {
        subgroup = subgroup.object(object, &[7; 500]);
    }
    send(&live, [subgroup]);
    live.subscriber.await_subgroups(live.alias(), "50 objects", |it| all(it) == 50)?;
    others.iter().try_for_each(|(peer, alias)| {
        peer.await_subgroups(*alias, "50 objects", |it| all(it) == 50).map(drop)
    })
}

fn first_object_flag(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(0, b"x")]);
    let came = live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    ensure(came.iter().all(|it| it.header.first_object), "FIRST_OBJECT", &came)
}

fn joined_midway(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut subgroup =
        build::Subgroup::with(header(1, SubgroupMode::FirstObject)).object(3, b"before");
    let stream = live.publisher.unidirectional(&subgroup.take());
    live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    let late = stage.session()?;
    let id = late.request_id();
    let request = late.request(&build::subscribe(id, &live.track, build::none()));
    let alias = late.subscribe_ok(request)?.track_alias.0;
    live.publisher.send(stream, &subgroup.object(4, b"after").take());
    let came = late.await_subgroups(alias, "the object after", |it| 0 < all(it))?;
    let came = came.first().ok_or_else(|| Failure::new("one subgroup", "none"))?;
    ensure(came.number() == 3, "subgroup 3", came)?;
    // A relay may give it the whole subgroup, out of its cache; else it must not claim to.
    let whole = came.numbers().first() == Some(&3);
    ensure(came.header.first_object == whole, format!("FIRST_OBJECT {whole}"), came)
}

fn stop_one_stream(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut first = build::Subgroup::new(ALIAS, 1, 0).object(0, b"x");
    let stream = live.publisher.unidirectional(&first.take());
    let came = live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    live.subscriber.stop(came[0].stream, 1);
    live.subscriber.answers()?;
    live.publisher.send(stream, &first.object(1, b"not wanted").take());
    send(&live, [build::Subgroup::new(ALIAS, 2, 0).object(0, b"wanted")]);
    let came = live.subscriber.await_subgroups(live.alias(), "group 2", |list| {
        list.iter().any(|it| it.group() == 2 && !it.objects.is_empty())
    })?;
    let reopened = came.iter().filter(|it| it.group() == 1).count();
    ensure(reopened == 1, "subgroup 0 of group 1 not opened again", reopened)
}

fn object_datagram(group: u64, object: u64) -> ObjectDatagram {
    ObjectDatagram {
        track_alias: TrackAlias(ALIAS),
        group: GroupId(group),
        object: ObjectId(object),
        priority: Some(9),
        end_of_group: false,
        properties: Properties::empty(),
        content: Content::Payload(Bytes::from_static(b"datagram")),
    }
}

/// Sends a datagram, again if it is lost, and gives what the subscriber gets of it.
fn through(live: &Live, datagram: &ObjectDatagram) -> Outcome<ObjectDatagram> {
    let mut bytes = BytesMut::new();
    datagram.encode(&mut bytes).map_err(|error| Failure::new("a datagram", error.to_string()))?;
    live.publisher.datagram(&bytes)?;
    let came = live.subscriber.object_datagram(PATIENCE)?;
    ensure(came.track_alias.0 == live.alias(), "the subscription's alias", &came)?;
    Ok(came)
}

fn same(sent: &ObjectDatagram, came: ObjectDatagram) -> Outcome {
    let came = ObjectDatagram { track_alias: sent.track_alias, ..came };
    ensure(*sent == came, format!("{sent:?}"), came)
}

fn datagram(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    for (group, object) in [(0, 0), (1, 5), (300, 20_000)] {
        let sent = object_datagram(group, object);
        same(&sent, through(&live, &sent)?)?;
    }
    Ok(())
}

fn datagram_properties(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let sent = ObjectDatagram { properties: some_properties(), ..object_datagram(1, 1) };
    same(&sent, through(&live, &sent)?)
}

fn datagram_status(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let content = Content::Status(ObjectStatus::EndOfGroup);
    let sent = ObjectDatagram { content, ..object_datagram(1, 1) };
    same(&sent, through(&live, &sent)?)
}

fn datagram_end_of_group(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let sent = ObjectDatagram { end_of_group: true, ..object_datagram(1, 1) };
    same(&sent, through(&live, &sent)?)
}

fn mixed(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(0, b"x")]);
    live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
    let sent = object_datagram(1, 1);
    same(&sent, through(&live, &sent)?)
}

fn padding(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut bytes = build::hex("f0132b3e28");
    bytes.resize(5_000, 0);
    let stream = live.publisher.unidirectional(&bytes);
    live.publisher.finish(stream);
    live.publisher.datagram(&build::hex("f0132b3e29 000000"))?;
    let sent = object_datagram(1, 1);
    same(&sent, through(&live, &sent)?)?;
    let streams = live.subscriber.data_streams().len();
    ensure(streams == 0, "no stream of padding", streams)
}

fn unknown_alias(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    for group in 0..5 {
        let mut subgroup = build::Subgroup::new(4_711, group, 0).object(0, b"whose?");
        let stream = peer.unidirectional(&subgroup.take());
        peer.finish(stream);
        peer.datagram(&build::hex("00 9267 01 02 03 70"))?;
    }
    peer.answers()
}

fn two_publishers(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let second = stage.session()?;
    let stream = second.request(&build::publish(second.request_id(), &live.track, 8));
    if second.ok(stream).is_err() {
        // A relay may refuse extra publishers.
        return second.answers();
    }
    for (peer, alias) in [(&live.publisher, ALIAS), (&second, 8)] {
        let mut subgroup = build::Subgroup::new(alias, 1, 0).object(0, b"same").object(1, b"same");
        let stream = peer.unidirectional(&subgroup.take());
        peer.finish(stream);
        peer.answers()?;
    }
    live.subscriber.await_subgroups(live.alias(), "2 objects", |it| 2 <= all(it))?;
    live.subscriber.answers()?;
    let came = all(&live.subscriber.subgroups(live.alias())?);
    ensure(came == 2, "each object once", came)
}

fn done_counts(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    send(&live, (0..3).map(|it| build::Subgroup::new(ALIAS, it, 0).object(0, &[7; 2_000])));
    let done = build::publish_done(PublishDoneCode::TRACK_ENDED, Some(3));
    live.publisher.say(live.upstream, &done);
    live.publisher.finish(live.upstream);
    let wanted = "PUBLISH_DONE with Stream Count 3, or unknown";
    match live.subscriber.message(live.downstream).map_err(|it| it.instead_of(wanted))? {
        aip_codec::moqt::message::Message::PublishDone(done) => {
            ensure(matches!(done.stream_count, None | Some(3)), wanted, &done)?;
        }
        other => return Err(Failure::new(wanted, format!("{other:?}"))),
    }
    live.subscriber
        .await_subgroups(live.alias(), "3 streams that ended", |list| {
            list.iter().filter(|it| it.end == Some(End::Finished)).count() == 3
        })
        .map(drop)
}

/// What makes a track malformed: `first`, then `second`.
struct BadTrack {
    name: &'static str,
    about: &'static str,
    section: &'static str,
    first: fn() -> build::Subgroup,
    second: fn() -> build::Subgroup,
}

const fn bad(
    name: &'static str,
    about: &'static str,
    section: &'static str,
    first: fn() -> build::Subgroup,
    second: fn() -> build::Subgroup,
) -> BadTrack {
    BadTrack { name, about, section, first, second }
}

fn one() -> build::Subgroup {
    build::Subgroup::new(ALIAS, 1, 0).object(0, b"first").object(1, b"as well")
}

/// A subgroup of group 1 whose last object is the group's.
fn ending(subgroup: u64) -> build::Subgroup {
    let mode = SubgroupMode::Explicit(SubgroupId(subgroup));
    build::Subgroup::with(SubgroupHeader { end_of_group: true, ..header(1, mode) })
}

const BAD_TRACKS: &[BadTrack] = &[
    bad(
        "malformed-track-other-payload",
        "an object comes again with another payload (D4)",
        "12.1",
        one,
        || build::Subgroup::new(ALIAS, 1, 0).object(0, b"FIRST").object(1, b"as well"),
    ),
    bad(
        "malformed-track-other-priority",
        "a subgroup comes again with another priority (D4)",
        "12.1",
        one,
        || {
            let header = SubgroupHeader { priority: Some(3), ..header(1, SubgroupMode::Zero) };
            build::Subgroup::with(header).object(0, b"first")
        },
    ),
    bad(
        "malformed-track-other-subgroup",
        "an object comes again in another subgroup (D4)",
        "12.1",
        one,
        || build::Subgroup::new(ALIAS, 1, 1).object(0, b"first"),
    ),
    bad(
        "malformed-track-after-end-of-group",
        "an object comes after its group's end (D5)",
        "12.1",
        || build::Subgroup::new(ALIAS, 1, 0).object(0, b"x").status(1, ObjectStatus::EndOfGroup),
        || build::Subgroup::new(ALIAS, 1, 2).object(5, b"late"),
    ),
    bad(
        "malformed-track-after-end-of-track",
        "an object comes after its track's end (D5)",
        "12.1",
        || build::Subgroup::new(ALIAS, 1, 0).object(0, b"x").status(1, ObjectStatus::EndOfTrack),
        || build::Subgroup::new(ALIAS, 2, 0).object(0, b"late"),
    ),
    bad(
        "malformed-track-two-ends",
        "a group has two different last objects (D5)",
        "12.1",
        || ending(0).object(5, b"x"),
        || ending(1).object(3, b"y"),
    ),
    bad(
        "malformed-track-nested-immutable",
        "immutable properties hold immutable properties",
        "10.7",
        || build::Subgroup::new(ALIAS, 1, 0).object(0, b"x"),
        || {
            let header = SubgroupHeader { properties: true, ..header(2, SubgroupMode::Zero) };
            let properties = Properties::builder().bytes(0x0b, &[0x0b, 0x01, 0x02][..]).build();
            build::Subgroup::with(header).object_with(0, b"y", properties.unwrap_or_default())
        },
    ),
];

fn bad_tracks() -> Vec<Case> {
    let streams = BAD_TRACKS.iter().map(|track| {
        case(track.name, track.about, track.section, move |stage| {
            let live = stage.live(build::none())?;
            send(&live, [(track.first)()]);
            live.subscriber.await_subgroups(live.alias(), "the first object", |it| 0 < all(it))?;
            send(&live, [(track.second)()]);
            ends_malformed(stage, &live, track.name == "malformed-track-other-payload")
        })
        .hostile()
    });
    let other_mode = case(
        "malformed-track-other-mode",
        "an object comes again in a datagram (D4)",
        "12.1",
        |stage| {
            let live = stage.live(build::none())?;
            send(&live, [build::Subgroup::new(ALIAS, 1, 0).object(0, b"x")]);
            live.subscriber.await_subgroups(live.alias(), "the object", |it| all(it) == 1)?;
            let mut bytes = BytesMut::new();
            let again = ObjectDatagram {
                priority: Some(128),
                content: Content::Payload(Bytes::from_static(b"x")),
                ..object_datagram(1, 0)
            };
            again.encode(&mut bytes).map_err(|it| Failure::new("a datagram", it.to_string()))?;
            live.publisher.datagram(&bytes)?;
            ends_malformed(stage, &live, false)
        },
    )
    .hostile();
    streams.chain([other_mode]).collect()
}

/// The subscription ends MALFORMED_TRACK, both sessions live, and what a cache has is the first.
fn ends_malformed(stage: &Stage<'_>, live: &Live, look_in_cache: bool) -> Outcome {
    super::subscribe::is_done(live, &[PublishDoneCode::MALFORMED_TRACK])?;
    live.publisher.answers()?;
    live.subscriber.answers()?;
    if !look_in_cache {
        return Ok(());
    }
    let peer = &live.subscriber;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(1, 1));
    let fetch = build::fetch(stage.version, id, &live.track, start, end, fill_timeout());
    let stream = peer.request(&fetch);
    // The publisher refuses whatever it is asked.
    let answer = peer.until("an answer to FETCH", |peer| {
        if let Ok((upstream, _)) = live.publisher.incoming_within(std::time::Duration::ZERO) {
            let refusal = build::request_error(RequestCode::MALFORMED_TRACK);
            live.publisher.say(upstream, &refusal);
        }
        match peer.heard_within(stream, std::time::Duration::ZERO) {
            Ok(crate::conformance::peer::Heard::Message(answer)) => Some(answer),
            _ => None,
        }
    })?;
    match answer {
        aip_codec::moqt::message::Message::RequestError(_) => Ok(()),
        aip_codec::moqt::message::Message::FetchOk(_) => {
            let fetched = peer.await_fetched(id.0, GroupOrder::Ascending)?;
            let wrong = fetched.objects().iter().any(|(_, payload)| payload == "FIRST");
            ensure(!wrong, "never the second payload out of a cache", fetched.records)
        }
        other => Err(Failure::new("an answer to FETCH", format!("{other:?}"))),
    }
}

/// Only what is there at once.
fn fill_timeout() -> aip_codec::moqt::parameter::Parameters {
    build::with(Parameter::FillTimeout(0))
}

//! Objects through a relay: nothing altered, nothing out of order, nothing claimed that is not so.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        datagram::{Content, ObjectDatagram},
        error_code::{PublishDoneCode, ResetCode},
        filter::LocationFilter,
        id::{GroupId, ObjectId, TrackAlias},
        parameter::Parameter,
        property::{OBJECT_DELIVERY_TIMEOUT, PRIOR_GROUP_ID_GAP, PRIOR_OBJECT_ID_GAP, Properties},
        stream::subgroup::{ObjectStatus, SubgroupMode},
    },
};
use aip_engine::session::{Event, StreamEnd};
use aip_tests::sim::{
    heard,
    peer::{Peer, Subgroup},
};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, at, none, objects, payload, with};

#[test]
fn a_payload_is_shared_and_never_copied() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let others: Vec<_> = (0..2).map(|_| live.stage.join(drafts.1, none()).0).collect();
        let sent = Bytes::from(vec![42; 10_000]);
        let group = Subgroup::new(7, 1);
        live.subgroup(&group, &[(0, sent.clone()), (1, sent.slice(1..))]);
        for peer in others.into_iter().chain([live.subscriber]) {
            let streams = heard::streams(&live.stage.take(peer));
            let [first, second] = &streams[0].objects[..] else { panic!("{streams:?}") };
            let pieces = |object: &heard::Object| -> Vec<(*const u8, usize)> {
                let pieces = object.payload.iter().filter(|piece| !piece.is_empty());
                pieces.map(|piece| (piece.as_ptr(), piece.len())).collect()
            };
            assert_eq!(pieces(first), [(sent.as_ptr(), 10_000)], "{drafts:?}: a copy was made");
            assert_eq!(pieces(second), [(sent[1..].as_ptr(), 9_999)]);
        }
    }
}

#[test]
fn every_field_of_an_object_arrives_as_it_was() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let subgroup = Subgroup {
            subgroup: Some(300),
            priority: Some(3),
            properties: true,
            end_of_group: false,
            ..Subgroup::new(7, 9)
        };
        // Unknown properties, gap properties, immutable ones: as they are.
        let properties = Properties::builder()
            .integer(0x3e, 4)
            .bytes(0x0b, vec![2, 1])
            .bytes(0x2b, vec![1, 2, 3])
            .integer(0x1234, 99)
            .build()
            .unwrap();
        let mut writer = live.open(&subgroup);
        live.stage.tell(live.publisher, |peer| {
            writer.begin(peer.session(), 5, 2, properties.clone());
            peer.session().send(writer.stream, Bytes::from("hi"), false);
            writer.object(peer.session(), 9, payload("there"));
            writer.object(peer.session(), 10, Bytes::new());
            writer.finish(peer.session());
        });
        let streams = heard::streams(&live.stage.take(live.subscriber));
        let [stream] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!(stream.line(), "9: 5=hi 9=there 10= fin");
        assert_eq!(
            stream.header.subgroup,
            SubgroupMode::Explicit(aip_codec::moqt::id::SubgroupId(300))
        );
        assert_eq!(stream.header.priority, Some(3));
        assert!(stream.header.first_object && !stream.header.end_of_group);
        assert_eq!(stream.objects[0].header.properties, properties, "{drafts:?}");
        assert!(stream.objects[1].header.properties.is_empty());
    }
}

#[test]
fn a_stream_begun_in_the_midst_says_so() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        // The subgroup is named by its first object, which the late subscriber will not see.
        let subgroup = Subgroup { subgroup: None, ..Subgroup::new(7, 1) };
        let mut writer = live.open(&subgroup);
        live.object(&mut writer, 4, "a");
        let (late, _) = live.stage.join(drafts.1, none());
        live.object(&mut writer, 5, "b");
        live.object(&mut writer, 7, "c");
        live.finish(&writer);
        for (peer, line, first) in
            [(live.subscriber, "1: 4=a 5=b 7=c fin", true), (late, "1: 5=b 7=c fin", false)]
        {
            let streams = heard::streams(&live.stage.take(peer));
            let [stream] = &streams[..] else { panic!("{streams:?}") };
            assert_eq!(stream.line(), line, "{drafts:?}");
            let subgroup = SubgroupMode::Explicit(aip_codec::moqt::id::SubgroupId(4));
            assert_eq!(stream.header.subgroup, subgroup, "{drafts:?}");
            assert_eq!(stream.header.first_object, first, "{drafts:?}");
        }
    }
}

#[test]
fn a_publishers_own_gap_is_kept_on_the_stream() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let subgroup = Subgroup { first_object: false, ..Subgroup::new(7, 1) };
        live.subgroup(&subgroup, &[(3, payload("a")), (8, payload("b")), (9, payload("c"))]);
        let streams = heard::streams(&live.stage.take(live.subscriber));
        assert_eq!(streams[0].line(), "1: 3=a 8=b 9=c fin", "{drafts:?}");
        assert!(!streams[0].header.first_object);
    }
}

#[test]
fn what_a_filter_leaves_out_does_not_break_a_stream() {
    let drafts = [(Version::Draft22, Version::Draft22), (Version::Draft22, Version::Draft18)];
    for drafts in drafts {
        let start = LocationFilter::Start { start: at(1, 2) };
        let mut live = Stage::live(drafts, with(Parameter::LocationFilter(start)));
        live.group(1, &["a", "b", "c", "d"]);
        live.group(2, &["e"]);
        assert_eq!(live.heard(), ["1: 2=c 3=d fin", "2: 0=e fin"], "{drafts:?}");
    }
}

#[test]
fn subgroups_of_a_group_come_on_streams_of_their_own() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writers: Vec<_> = (0..3)
            .map(|subgroup| {
                live.open(&Subgroup {
                    subgroup: Some(subgroup),
                    end_of_group: false,
                    ..Subgroup::new(7, 1)
                })
            })
            .collect();
        for round in 0..4_u64 {
            for (index, writer) in writers.iter_mut().enumerate() {
                let object = round * 3 + index as u64;
                live.object(writer, object, &object.to_string());
            }
        }
        for writer in &writers {
            live.finish(writer);
        }
        assert_eq!(
            live.heard(),
            ["1: 0=0 3=3 6=6 9=9 fin", "1: 1=1 4=4 7=7 10=10 fin", "1: 2=2 5=5 8=8 11=11 fin"],
            "{drafts:?}"
        );
    }
}

#[test]
fn groups_may_come_in_any_order() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        for group in [5, 1, 3, 2, 9, 4] {
            live.group(group, &["a", "b"]);
        }
        assert_eq!(live.heard().len(), 6, "{drafts:?}");
    }
}

#[test]
fn a_reset_is_passed_on_with_its_reason() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "a");
        live.stage.tell(live.publisher, |peer| {
            peer.session().reset_stream(writer.stream, ResetCode::DELIVERY_TIMEOUT);
        });
        assert_eq!(live.heard(), ["1: 0=a DELIVERY_TIMEOUT"], "{drafts:?}");
        // The rest of the subgroup may come on another stream.
        let subgroup = Subgroup { first_object: false, ..Subgroup::new(7, 1) };
        live.subgroup(&subgroup, &[(1, payload("b"))]);
        assert_eq!(live.heard(), ["1: 1=b fin"], "{drafts:?}");
    }
}

#[test]
fn a_stopped_subgroup_is_not_reopened() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "a");
        let stream = live
            .stage
            .take(live.subscriber)
            .iter()
            .find_map(|event| match event {
                Event::SubgroupOpened { stream, .. } => Some(*stream),
                _ => None,
            })
            .unwrap();
        live.stage.tell(live.subscriber, |peer| {
            peer.session().stop_incoming(stream, ResetCode::CANCELLED);
        });
        live.object(&mut writer, 1, "b");
        live.object(&mut writer, 9, "c");
        live.finish(&writer);
        live.group(2, &["d"]);
        assert_eq!(live.heard(), ["2: 0=d fin"], "{drafts:?}");
    }
}

#[test]
fn a_duplicate_is_not_sent_twice() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, _) = live.stage.request(second);
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, none()));
        live.group(1, &["a", "b"]);
        let copy = Subgroup::new(3, 1);
        live.stage.tell(second, |peer| peer.send_subgroup(upstream, &copy, &objects(&["a", "b"])));
        let newer = Subgroup::new(3, 2);
        live.stage.tell(second, |peer| peer.send_subgroup(upstream, &newer, &objects(&["c"])));
        live.group(2, &["c"]);
        assert_eq!(live.heard(), ["1: 0=a 1=b fin", "2: 0=c fin"], "{drafts:?}");
    }
}

/// Two publishers of one track; the second one's request.
fn two(
    drafts: (Version, Version),
) -> (Live, aip_tests::sim::NodeId, aip_codec::moqt::id::RequestId) {
    let mut live = Stage::live(drafts, none());
    let second = live.stage.publisher(drafts.0, "live/room");
    let (upstream, _) = live.stage.request(second);
    live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, none()));
    (live, second, upstream)
}

#[test]
fn two_publishers_do_not_write_into_each_others_objects() {
    for drafts in DRAFTS {
        let (mut live, second, upstream) = two(drafts);
        // The first is in the midst of object 1 when the second is through with it.
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "zero");
        live.stage.tell(live.publisher, |peer| {
            writer.begin(peer.session(), 1, 6, Properties::default());
            peer.session().send(writer.stream, Bytes::from("one"), false);
        });
        let copy = Subgroup::new(3, 1);
        let all = objects(&["zero", "oneone", "two", "three"]);
        live.stage.tell(second, |peer| peer.send_subgroup(upstream, &copy, &all));
        live.stage.tell(live.publisher, |peer| {
            peer.session().send(writer.stream, Bytes::from("one"), false);
            writer.object(peer.session(), 2, payload("two"));
            writer.object(peer.session(), 3, payload("three"));
            writer.finish(peer.session());
        });
        assert_eq!(live.heard(), ["1: 0=zero 1=oneone 2=two 3=three fin"], "{drafts:?}");
        assert!(!live.stage.closed(live.subscriber));
        // And what is cached is whole.
        let (peer, _) = live.stage.join(drafts.1, none());
        let fetch = live.stage.fetch(peer, at(1, 0), at(1, 3), none());
        assert_eq!(
            live.stage.fetched(peer, fetch),
            "1/0=zero 1/1=oneone 1/2=two 1/3=three fin",
            "{drafts:?}"
        );
    }
}

#[test]
fn the_second_publisher_goes_on_where_the_first_one_broke_off() {
    for drafts in DRAFTS {
        let (mut live, second, upstream) = two(drafts);
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "zero");
        let copy = Subgroup::new(3, 1);
        let mut copier = live.stage.tell(second, |peer| peer.open(upstream, &copy).unwrap());
        live.stage.tell(second, |peer| copier.object(peer.session(), 0, payload("zero")));
        live.stage.tell(live.publisher, |peer| {
            peer.session().reset_stream(writer.stream, ResetCode::INTERNAL_ERROR);
        });
        live.stage.tell(second, |peer| {
            copier.object(peer.session(), 1, payload("one"));
            copier.finish(peer.session());
        });
        let heard = live.heard().join("; ");
        assert!(heard.contains("0=zero") && heard.contains("1=one"), "{drafts:?}: {heard}");
        assert!(heard.ends_with("fin"), "{drafts:?}: {heard}");
    }
}

/// The first publisher's stream after two objects, and the second's, which begins behind them.
fn ahead(
    drafts: (Version, Version),
) -> (Live, aip_tests::sim::peer::Writer, aip_tests::sim::NodeId, aip_tests::sim::peer::Writer) {
    let (mut live, second, upstream) = two(drafts);
    let mut writer = live.open(&Subgroup { end_of_group: false, ..Subgroup::new(7, 1) });
    live.object(&mut writer, 0, "zero");
    live.object(&mut writer, 1, "one");
    let later = Subgroup { first_object: false, end_of_group: false, ..Subgroup::new(3, 1) };
    let copier = live.stage.tell(second, |peer| {
        let mut copier = peer.open(upstream, &later).unwrap();
        copier.object(peer.session(), 3, payload("three"));
        copier.object(peer.session(), 7, payload("seven"));
        copier
    });
    (live, writer, second, copier)
}

#[test]
fn a_publisher_that_is_ahead_waits_for_the_others() {
    for drafts in DRAFTS {
        let (mut live, mut writer, second, mut copier) = ahead(drafts);
        live.object(&mut writer, 2, "two");
        live.object(&mut writer, 3, "three");
        live.object(&mut writer, 7, "seven");
        live.stage.tell(second, |peer| {
            copier.object(peer.session(), 8, payload("eight"));
            copier.finish(peer.session());
        });
        live.object(&mut writer, 8, "eight");
        live.finish(&writer);
        let heard = live.heard();
        assert_eq!(heard, ["1: 0=zero 1=one 2=two 3=three 7=seven 8=eight fin"], "{drafts:?}");
    }
}

/// The end of a stream says that its subgroup has no further objects: not of one without the last,
/// which went out before on a stream of its own.
#[test]
fn a_stream_that_was_overtaken_does_not_end_as_if_it_were_whole() {
    for drafts in DRAFTS {
        let (mut live, second, upstream) = two(drafts);
        let last = Subgroup { first_object: false, ..Subgroup::new(3, 1) };
        let object = [(2, payload("two"))];
        live.stage.tell(second, |peer| peer.send_subgroup(upstream, &last, &object));
        assert_eq!(live.heard(), ["1: 2=two fin"], "{drafts:?}");
        let mut writer = live.open(&Subgroup::new(7, 1));
        for (object, text) in objects(&["zero", "one", "two"]) {
            live.stage.tell(live.publisher, |peer| writer.object(peer.session(), object, text));
        }
        live.finish(&writer);
        assert_eq!(live.heard(), ["1: 0=zero 1=one CANCELLED"], "{drafts:?}");
    }
}

#[test]
fn a_stream_that_began_too_far_on_does_not_end_as_if_it_were_whole() {
    for drafts in DRAFTS {
        let (mut live, second, upstream) = two(drafts);
        let later = Subgroup { first_object: false, end_of_group: false, ..Subgroup::new(3, 1) };
        let copier = live.stage.tell(second, |peer| {
            let mut copier = peer.open(upstream, &later).unwrap();
            copier.object(peer.session(), 2, payload("two"));
            copier
        });
        // What comes before it comes too late for the subscriber's stream, which is still open.
        let mut writer = live.open(&Subgroup { end_of_group: false, ..Subgroup::new(7, 1) });
        live.object(&mut writer, 0, "zero");
        live.object(&mut writer, 2, "two");
        live.stage.tell(second, |peer| copier.finish(peer.session()));
        live.finish(&writer);
        assert_eq!(live.heard(), ["1: 2=two CANCELLED"], "{drafts:?}");
    }
}

#[test]
fn a_stream_goes_on_only_with_what_is_known_to_be_next() {
    for drafts in DRAFTS {
        let (mut live, writer, second, mut copier) = ahead(drafts);
        // Of object 2 nothing will be known: the next one begins a stream of its own.
        live.stage.tell(live.publisher, |peer| {
            peer.session().reset_stream(writer.stream, ResetCode::INTERNAL_ERROR);
        });
        let told = live.stage.take(live.subscriber);
        let streams = heard::streams(&told);
        let lines: Vec<String> = streams.iter().map(heard::Stream::line).collect();
        assert_eq!(lines[0], "1: 0=zero 1=one CANCELLED", "{drafts:?}");
        assert!(lines[1].starts_with("1: 3=three"), "{drafts:?}: {lines:?}");
        assert!(!streams[1].header.first_object, "{drafts:?}");
        // What comes directly behind it on the publisher's own stream goes on where that one is.
        live.stage.tell(second, |peer| copier.object(peer.session(), 9, payload("nine")));
        let more = live.stage.take(live.subscriber);
        assert!(
            !more.iter().any(|event| matches!(event, Event::SubgroupOpened { .. })),
            "{drafts:?}: {more:?}"
        );
    }
}

#[test]
fn publishers_headers_may_differ() {
    for drafts in DRAFTS {
        let (mut live, second, upstream) = two(drafts);
        let mut writer = live.open(&Subgroup { end_of_group: false, ..Subgroup::new(7, 1) });
        live.object(&mut writer, 0, "zero");
        // The second writes a block of properties, empty, before each payload.
        let copy = Subgroup { properties: true, end_of_group: false, ..Subgroup::new(3, 1) };
        live.stage.tell(second, |peer| {
            let mut copier = peer.open(upstream, &copy).unwrap();
            copier.object(peer.session(), 0, payload("zero"));
            copier.object(peer.session(), 1, payload("one"));
        });
        live.object(&mut writer, 2, "two");
        live.finish(&writer);
        assert!(!live.stage.closed(live.subscriber), "{drafts:?}");
        let heard = live.heard().join("; ");
        for object in ["0=zero", "1=one", "2=two"] {
            assert_eq!(heard.matches(object).count(), 1, "{drafts:?}: {heard}");
        }
    }
}

#[track_caller]
fn check_malformed(drafts: (Version, Version), offend: impl Fn(&mut Live)) {
    let mut live = Stage::live(drafts, none());
    live.subgroup(&Subgroup { end_of_group: false, ..Subgroup::new(7, 1) }, &objects(&["a", "b"]));
    live.stage.take(live.subscriber);
    let fetcher = live.stage.peer(drafts.1);
    offend(&mut live);
    let told = live.stage.take(live.subscriber);
    let Some(Event::PublishDone { body, .. }) = told.last() else {
        panic!("{drafts:?}: {told:?}");
    };
    assert_eq!(body.code, PublishDoneCode::MALFORMED_TRACK, "{drafts:?}");
    assert!(!live.stage.closed(live.publisher), "only the track ends");
    let told = live.stage.take(live.publisher);
    assert!(told.contains(&Event::Ended { request: live.upstream }), "{drafts:?}: {told:?}");
    assert_eq!(live.stage.counts().1, 0, "{drafts:?}");
    let _ = fetcher;
}

#[test]
fn a_track_that_contradicts_itself_is_ended() {
    for drafts in DRAFTS {
        let again = Subgroup { end_of_group: false, first_object: false, ..Subgroup::new(7, 1) };
        // Another payload, length, priority, subgroup for the same object.
        check_malformed(drafts, |live| live.subgroup(&again, &[(1, payload("x"))]));
        check_malformed(drafts, |live| live.subgroup(&again, &[(1, payload("bb"))]));
        check_malformed(drafts, |live| {
            live.subgroup(&Subgroup { priority: Some(1), ..again }, &[(1, payload("b"))]);
        });
        check_malformed(drafts, |live| {
            live.subgroup(&Subgroup { subgroup: Some(4), ..again }, &[(1, payload("b"))]);
        });
        // A datagram for what came on a stream.
        check_malformed(drafts, |live| {
            live.stage.tell(live.publisher, |peer| {
                peer.session().send_datagram(&datagram(1, 1, Some(128), "b"));
            });
        });
        // Another priority in the same subgroup; something behind the subgroup's end; a second end.
        check_malformed(drafts, |live| {
            let other = Subgroup { priority: Some(1), ..again };
            live.subgroup(&other, &[(2, payload("c"))]);
        });
        check_malformed(drafts, |live| live.subgroup(&again, &[(2, payload("c"))]));
        check_malformed(drafts, |live| live.subgroup(&again, &[(0, payload("a"))]));
        // Something behind the track's end.
        check_malformed(drafts, |live| {
            let mut writer = live.open(&Subgroup { end_of_group: false, ..Subgroup::new(7, 3) });
            live.stage.tell(live.publisher, |peer| {
                writer.status(peer.session(), 0, ObjectStatus::EndOfTrack);
            });
            live.finish(&writer);
            live.group(4, &["x"]);
        });
        check_malformed(drafts, |live| {
            live.group(4, &["x"]);
            let mut writer = live.open(&Subgroup { end_of_group: false, ..Subgroup::new(7, 3) });
            live.stage.tell(live.publisher, |peer| {
                writer.status(peer.session(), 0, ObjectStatus::EndOfTrack);
            });
        });
    }
}

/// Part of group 1 after subgroup 0 is over, so that only the group's end speaks against it.
const fn part(subgroup: u64) -> Subgroup {
    Subgroup {
        subgroup: Some(subgroup),
        end_of_group: false,
        first_object: false,
        ..Subgroup::new(7, 1)
    }
}

/// Sends an object of group 1 that is said to be its last.
fn last(live: &mut Live, object: u64) {
    let ends = Subgroup { end_of_group: true, ..part(object + 20) };
    live.subgroup(&ends, &[(object, payload("d"))]);
}

/// Says of group 1, or the track, that it ends in front of an object.
fn status(live: &mut Live, object: u64, status: ObjectStatus) {
    let mut writer = live.open(&part(object + 40));
    live.stage.tell(live.publisher, |peer| writer.status(peer.session(), object, status));
    live.finish(&writer);
}

#[test]
fn nothing_comes_behind_a_groups_end() {
    for drafts in DRAFTS {
        // Something behind the group's end, which a stream, a status or a datagram told.
        check_malformed(drafts, |live| {
            last(live, 3);
            live.subgroup(&part(1), &[(4, payload("e"))]);
        });
        check_malformed(drafts, |live| {
            status(live, 3, ObjectStatus::EndOfGroup);
            live.subgroup(&part(1), &[(3, payload("d"))]);
        });
        check_malformed(drafts, |live| {
            status(live, 3, ObjectStatus::EndOfGroup);
            live.subgroup(&part(1), &[(4, payload("e"))]);
        });
        check_malformed(drafts, |live| {
            live.stage.tell(live.publisher, |peer| {
                let ends = ObjectDatagram { end_of_group: true, ..datagram(1, 3, None, "d") };
                peer.session().send_datagram(&ends);
            });
            live.subgroup(&part(1), &[(4, payload("e"))]);
        });
        // An end in front of what was there, or in its place.
        check_malformed(drafts, |live| status(live, 0, ObjectStatus::EndOfGroup));
        check_malformed(drafts, |live| status(live, 1, ObjectStatus::EndOfGroup));
        check_malformed(drafts, |live| last(live, 0));
    }
}

#[test]
fn a_group_has_one_end() {
    for drafts in DRAFTS {
        // Two different ends, told in the same way or not.
        check_malformed(drafts, |live| {
            last(live, 3);
            last(live, 2);
        });
        for (first, second) in [(5, 3), (3, 5)] {
            check_malformed(drafts, |live| {
                status(live, first, ObjectStatus::EndOfGroup);
                status(live, second, ObjectStatus::EndOfGroup);
            });
        }
        check_malformed(drafts, |live| {
            last(live, 3);
            status(live, 6, ObjectStatus::EndOfGroup);
        });
        check_malformed(drafts, |live| {
            status(live, 6, ObjectStatus::EndOfGroup);
            last(live, 3);
        });
        check_malformed(drafts, |live| {
            status(live, 3, ObjectStatus::EndOfGroup);
            status(live, 3, ObjectStatus::EndOfTrack);
        });
        check_malformed(drafts, |live| {
            status(live, 3, ObjectStatus::EndOfTrack);
            live.subgroup(&part(1), &[(3, payload("d"))]);
        });
    }
}

#[test]
fn the_same_end_told_in_two_ways_is_one_end() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.subgroup(&Subgroup::new(7, 1), &objects(&["a", "b"]));
        for _ in 0..2 {
            let told = Subgroup { subgroup: Some(1), ..Subgroup::new(7, 1) };
            let mut writer = live.open(&told);
            live.stage.tell(live.publisher, |peer| {
                writer.status(peer.session(), 2, ObjectStatus::EndOfGroup);
            });
            live.finish(&writer);
        }
        live.group(2, &["c"]);
        assert!(live.heard().contains(&"2: 0=c fin".to_owned()), "{drafts:?}");
    }
}

#[test]
fn a_track_goes_not_on_behind_what_a_fetch_said_was_its_last() {
    for drafts in DRAFTS {
        check_malformed(drafts, |live| {
            live.group(3, &["x"]);
            live.stage.take(live.subscriber);
            let asker = live.stage.peer(drafts.1);
            live.stage.fetch(asker, at(0, 0), at(3, 0), none());
            let (upstream, ..) = live.stage.fetch_request(live.publisher);
            live.stage.tell(live.publisher, |peer| {
                let properties = Properties::default();
                peer.session().accept_fetch(upstream, true, at(3, 0), properties);
            });
            live.group(4, &["y"]);
        });
        // What came already is behind it, too.
        check_malformed(drafts, |live| {
            live.group(3, &["x"]);
            live.group(4, &["y"]);
            live.stage.take(live.subscriber);
            let asker = live.stage.peer(drafts.1);
            live.stage.fetch(asker, at(0, 0), at(3, 0), none());
            let (upstream, ..) = live.stage.fetch_request(live.publisher);
            live.stage.tell(live.publisher, |peer| {
                let properties = Properties::default();
                peer.session().accept_fetch(upstream, true, at(3, 0), properties);
            });
        });
    }
}

#[test]
fn an_objects_immutable_properties_do_not_change() {
    for drafts in DRAFTS {
        let send = |live: &mut Live, properties: Properties| {
            let subgroup =
                Subgroup { properties: true, end_of_group: false, ..Subgroup::new(7, 2) };
            let mut writer = live.open(&subgroup);
            live.stage.tell(live.publisher, |peer| {
                writer.begin(peer.session(), 0, 0, properties);
            });
            live.finish(&writer);
        };
        let with = |immutable: u8, other: u64| {
            let pairs = Properties::builder().integer(0x1234, other);
            pairs.bytes(0x0b, vec![2, immutable]).build().unwrap()
        };
        check_malformed(drafts, |live| {
            send(live, with(1, 7));
            send(live, with(2, 7));
        });
        check_malformed(drafts, |live| {
            send(live, with(1, 7));
            send(live, Properties::builder().integer(0x1234, 7).build().unwrap());
        });
        // Others may.
        let mut live = Stage::live(drafts, none());
        send(&mut live, with(1, 7));
        send(&mut live, with(1, 8));
        live.group(3, &["x"]);
        assert!(live.heard().contains(&"3: 0=x fin".to_owned()), "{drafts:?}");
    }
}

#[test]
fn gaps_that_are_none_end_a_track() {
    for drafts in DRAFTS {
        let send = |live: &mut Live, group: u64, object: u64, gap: (u64, u64)| {
            let properties = Properties::builder().integer(gap.0, gap.1).build().unwrap();
            let subgroup = Subgroup {
                properties: true,
                subgroup: Some(object + 9),
                end_of_group: false,
                ..Subgroup::new(7, group)
            };
            let mut writer = live.open(&subgroup);
            live.stage.tell(live.publisher, |peer| {
                writer.begin(peer.session(), object, 0, properties);
            });
            live.finish(&writer);
        };
        // A gap over what was there, one before the beginning, something in a gap; of groups too.
        check_malformed(drafts, |live| send(live, 1, 3, (PRIOR_OBJECT_ID_GAP, 2)));
        check_malformed(drafts, |live| send(live, 2, 3, (PRIOR_OBJECT_ID_GAP, 4)));
        check_malformed(drafts, |live| {
            send(live, 2, 3, (PRIOR_OBJECT_ID_GAP, 2));
            send(live, 2, 2, (PRIOR_OBJECT_ID_GAP, 0));
        });
        check_malformed(drafts, |live| send(live, 2, 0, (PRIOR_GROUP_ID_GAP, 1)));
        check_malformed(drafts, |live| send(live, 2, 0, (PRIOR_GROUP_ID_GAP, 3)));
        check_malformed(drafts, |live| {
            send(live, 6, 0, (PRIOR_GROUP_ID_GAP, 2));
            live.group(5, &["x"]);
        });
        // What is right goes on, and is believed: nobody is asked for what does not exist.
        let mut live = Stage::live(drafts, none());
        send(&mut live, 6, 3, (PRIOR_OBJECT_ID_GAP, 3));
        send(&mut live, 9, 0, (PRIOR_GROUP_ID_GAP, 2));
        assert_eq!(live.heard().len(), 2, "{drafts:?}");
        let fetch = live.stage.fetch(live.subscriber, at(6, 0), at(6, 3), none());
        assert_eq!(live.stage.fetched(live.subscriber, fetch), "6/3= fin", "{drafts:?}");
        let fetch = live.stage.fetch(live.subscriber, at(7, 0), at(9, 0), none());
        assert_eq!(live.stage.fetched(live.subscriber, fetch), "9/0= fin", "{drafts:?}");
        assert!(live.stage.requests(live.publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn what_was_there_first_is_what_is_served() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let begun = Subgroup { end_of_group: false, ..Subgroup::new(7, 1) };
        let mut writer = live.open(&begun);
        live.object(&mut writer, 0, "true");
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, _) = live.stage.request(second);
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, none()));
        let copy = Subgroup { end_of_group: false, ..Subgroup::new(3, 1) };
        live.stage.tell(second, |peer| {
            peer.send_subgroup(upstream, &copy, &objects(&["fals"]));
        });
        let told = live.stage.take(live.subscriber);
        let heard = heard::lines(&told).join(" ");
        assert!(!heard.contains("fals"), "{drafts:?}: {heard}");
        let Some(Event::PublishDone { body, .. }) = told.last() else { panic!("{told:?}") };
        assert_eq!(body.code, PublishDoneCode::MALFORMED_TRACK, "{drafts:?}");
        for (peer, request) in [(live.publisher, live.upstream), (second, upstream)] {
            let told = live.stage.take(peer);
            assert!(told.contains(&Event::Ended { request }), "{drafts:?}: {told:?}");
        }
    }
}

#[test]
fn immutable_properties_that_are_broken_end_a_track() {
    for drafts in DRAFTS {
        for block in [vec![0xff, 0xff], vec![0x0b, 1, 0]] {
            check_malformed(drafts, |live| {
                let properties = Properties::builder().bytes(0x0b, block.clone()).build().unwrap();
                let subgroup = Subgroup { properties: true, ..Subgroup::new(7, 2) };
                let mut writer = live.open(&subgroup);
                live.stage.tell(live.publisher, |peer| {
                    writer.begin(peer.session(), 0, 0, properties);
                });
            });
        }
        // A property that only a track may have, and must be understood.
        check_malformed(drafts, |live| {
            let properties = Properties::builder().integer(0x4000, 1).build().unwrap();
            let mut writer = live.open(&Subgroup { properties: true, ..Subgroup::new(7, 2) });
            live.stage.tell(live.publisher, |peer| {
                writer.begin(peer.session(), 0, 0, properties);
            });
        });
    }
}

pub(super) fn datagram(
    group: u64,
    object: u64,
    priority: Option<u8>,
    text: &str,
) -> ObjectDatagram {
    ObjectDatagram {
        track_alias: TrackAlias(7),
        group: GroupId(group),
        object: ObjectId(object),
        priority,
        end_of_group: false,
        properties: Properties::default(),
        content: Content::Payload(payload(text)),
    }
}

#[test]
fn datagrams_go_on_as_datagrams() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let (paused, _) = live.stage.join(drafts.1, with(Parameter::Forward(false)));
        for object in 0..3 {
            live.stage.tell(live.publisher, |peer: &mut Peer| {
                peer.session().send_datagram(&datagram(1, object, Some(9), "x"));
                peer.session().send_datagram(&datagram(1, object, Some(9), "x"));
            });
        }
        let told = live.stage.take(live.subscriber);
        let got: Vec<ObjectDatagram> = told
            .into_iter()
            .filter_map(|event| match event {
                Event::Datagram { object } => Some(object),
                _ => None,
            })
            .collect();
        assert_eq!(got.len(), 3, "{drafts:?}: a copy goes nowhere");
        for (index, object) in (0..).zip(&got) {
            let alias = object.track_alias;
            let expected =
                ObjectDatagram { track_alias: alias, ..datagram(1, index, Some(9), "x") };
            assert_eq!(*object, expected, "{drafts:?}");
        }
        assert!(live.stage.take(paused).is_empty());
        // A fetch brings them too, and says what they were.
        let fetch = live.stage.fetch(live.subscriber, at(1, 0), at(1, 2), none());
        let (items, end) = heard::fetched(&live.stage.take(live.subscriber), fetch);
        assert_eq!((items.len(), end), (3, Some(StreamEnd::Fin)), "{drafts:?}");
    }
}

/// A datagram may wait as long as the stricter of publisher and subscriber says; nothing said is for
/// ever.
#[test]
fn datagrams_may_wait_as_long_as_both_sides_say() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let timeout = with(Parameter::ObjectDeliveryTimeout(300));
        let links = [timeout, none()].map(|parameters| {
            let (subscriber, link) = live.stage.peer_with_link(drafts.1);
            live.stage.subscribe(subscriber, "t", parameters);
            link
        });
        live.stage.run(50);
        for (object, timeout) in [(0, None), (1, Some(200)), (2, Some(400))] {
            let properties = timeout.map_or_else(Properties::default, |timeout| {
                Properties::builder().integer(OBJECT_DELIVERY_TIMEOUT, timeout).build().unwrap()
            });
            let object = ObjectDatagram { properties, ..datagram(1, object, None, "x") };
            live.stage
                .tell(live.publisher, |peer: &mut Peer| peer.session().send_datagram(&object));
        }
        let [one, other] = links.map(|link| live.stage.world.patience(link).to_vec());
        let all = |times: [Option<u64>; 3]| times.map(|it| it.map(Duration::from_millis));
        assert_eq!(one, all([Some(300), Some(200), Some(300)]), "{drafts:?}");
        assert_eq!(other, all([None, Some(200), Some(400)]), "{drafts:?}");
    }
}

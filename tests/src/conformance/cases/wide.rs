//! Integers in nine bytes, wherever the draft has one, are the same integers (W3).

use aip_codec::moqt::{
    datagram::{Content, ObjectDatagram},
    error_code::PublishDoneCode,
    id::{GroupId, ObjectId, TrackAlias},
    message::Message,
    parameter::GroupOrder,
    property::Properties,
};
use bytes::Bytes;

use super::{control::refused_or_ok, malformed::requests::Kind};
use crate::conformance::{
    build::{self, wide},
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{PATIENCE, Peer, name},
    stage::{ALIAS, Live, Stage},
};

const SECTION: &str = "8.1";

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let name = format!("wide-{}", kind.name());
            case(name, "all its integers may have nine bytes (W3)", SECTION, move |stage| {
                let peer = stage.session()?;
                let id = peer.request_id().0;
                let frame = build::wide_frame(kind.code(), &request(kind, stage, id));
                let stream = peer.bidirectional(&frame);
                refused_or_ok(&peer, stream)?;
                peer.answers()
            })
        })
        .collect();
    cases.extend([
        case("wide-subscribe-ok", "all its integers may have nine bytes (W3)", SECTION, |stage| {
            has_properties(&live(stage)?.ok.properties)
        }),
        case(
            "wide-subgroup",
            "a header and objects may be as long as can be (W3)",
            SECTION,
            subgroup,
        ),
        case("wide-datagram", "a datagram may be as long as can be (W3)", SECTION, datagram),
        case("wide-fetch-stream", "a fetch stream may be as long as can be (W3)", SECTION, fetch),
        case(
            "wide-publish-done",
            "all its integers may have nine bytes (W3)",
            SECTION,
            publish_done,
        ),
        case("wide-request-error", "all its integers may have nine bytes (W3)", SECTION, refused),
        case("wide-request-update", "all its integers may have nine bytes (W3)", SECTION, update),
        case("wide-request-ok", "all its integers may have nine bytes (W3)", SECTION, accepted),
        case("wide-goaway", "all its integers may have nine bytes (W3)", SECTION, goaway),
    ]);
    cases
}

/// A good request with every integer in nine bytes.
fn request(kind: Kind, stage: &Stage<'_>, id: u64) -> Vec<u8> {
    let field = build::unique().into_bytes();
    let is_old_fetch = kind == Kind::Fetch && stage.version.number() < 20;
    let mut body = wide(id);
    if is_old_fetch {
        body.extend(wide(1));
    }
    body.extend([wide(1), wide(field.len() as u64), field].concat());
    if kind.has_name() {
        body.extend([wide(1), vec![b't']].concat());
    }
    if is_old_fetch {
        body.extend([0, 0, 9, 9].map(wide).concat());
    }
    if kind == Kind::Publish {
        body.extend(wide(9));
    }
    if kind == Kind::Subscribe {
        // OBJECT_DELIVERY_TIMEOUT and RENDEZVOUS_TIMEOUT.
        body.extend([2, 2, 60_000, 2, 0].map(wide).concat());
    } else {
        body.extend(wide(0));
    }
    if kind == Kind::Publish {
        body.extend([0x3802, 99].map(wide).concat());
    }
    body
}

/// A block of two properties in as many bytes as can be.
fn properties() -> Vec<u8> {
    [wide(0x3802), wide(99), wide(1), wide(6), b"opaque".to_vec()].concat()
}

fn has_properties(came: &Properties) -> Outcome {
    let sent = Properties::builder().integer(0x3802, 99).bytes(0x3803, &b"opaque"[..]).build();
    let sent = sent.unwrap_or_default();
    let same = came.iter().eq(sent.iter());
    ensure(same, "properties 0x3802 and 0x3803 as they were sent", came)
}

/// A live track whose SUBSCRIBE_OK was wide.
fn live(stage: &Stage<'_>) -> Outcome<Live> {
    let track = stage.track("t");
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let downstream = subscriber.request(&build::subscribe(id, &track, build::none()));
    let (upstream, asked) = publisher.subscribed()?;
    // EXPIRES.
    let body = [[ALIAS, 1, 8, 3_600_000].map(wide).concat(), properties()].concat();
    publisher.send(upstream, &build::wide_frame(0x04, &body));
    let ok = subscriber.subscribe_ok(downstream)?;
    Ok(Live { publisher, upstream, asked, subscriber, downstream, request: id.0, ok, track })
}

fn subgroup(stage: &Stage<'_>) -> Outcome {
    let live = live(stage)?;
    // Explicit subgroup, priority, properties; object 0 of group 1.
    let header = [[0x15, ALIAS, 1, 0].map(wide).concat(), vec![9]].concat();
    let block = properties();
    let object = [wide(0), wide(block.len() as u64), block, wide(4), b"wide".to_vec()].concat();
    let next = [wide(0), wide(0), wide(0), wide(3)].concat();
    let stream = live.publisher.unidirectional(&[header, object, next].concat());
    live.publisher.finish(stream);
    let came = live.subscriber.await_subgroups(live.alias(), "both objects", |list| {
        list.iter().any(|it| it.objects.len() == 2)
    })?;
    let objects = &came[0].objects;
    ensure(objects[0].payload == "wide" && objects[1].object == 1, "objects 0 and 1", objects)?;
    let block = Properties::decode_object(objects[0].properties.clone());
    has_properties(&block.unwrap_or_default())
}

fn datagram(stage: &Stage<'_>) -> Outcome {
    let live = live(stage)?;
    let block = properties();
    let bytes = [
        [0x01, ALIAS, 1, 5].map(wide).concat(),
        vec![9],
        wide(block.len() as u64),
        block,
        b"wide".to_vec(),
    ];
    live.publisher.datagram(&bytes.concat())?;
    let came = live.subscriber.object_datagram(PATIENCE)?;
    has_properties(&came.properties)?;
    let wanted = ObjectDatagram {
        track_alias: TrackAlias(live.alias()),
        group: GroupId(1),
        object: ObjectId(5),
        priority: Some(9),
        end_of_group: false,
        properties: came.properties.clone(),
        content: Content::Payload(Bytes::from_static(b"wide")),
    };
    ensure(came == wanted, format!("{wanted:?}"), came)
}

fn fetch(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(9, 9));
    let fetch = build::fetch(peer.version, id, &stage.track("t"), start, end, build::none());
    peer.request(&fetch);
    let (stream, fetch) = publisher.fetched_from()?;
    let object = if stage.version.number() < 20 { 10 } else { 9 };
    let body = [vec![0], [9, object, 0].map(wide).concat(), properties()].concat();
    publisher.send(stream, &build::wide_frame(0x18, &body));
    let block = properties();
    let records = [
        [5, fetch.request_id.0, 0x3f, 1, 3, 0].map(wide).concat(),
        vec![9],
        [wide(block.len() as u64), block, wide(4), b"wide".to_vec()].concat(),
    ];
    let data = publisher.unidirectional(&records.concat());
    publisher.finish(data);
    let fetched = peer.await_fetched(id.0, GroupOrder::Ascending)?;
    ensure(fetched.objects() == [(build::at(1, 0), "wide".into())], "object {1, 0}", fetched)
}

fn publish_done(stage: &Stage<'_>) -> Outcome {
    let live = live(stage)?;
    let body = [[2, 0, 3].map(wide).concat(), b"bye".to_vec()].concat();
    live.publisher.send(live.upstream, &build::wide_frame(0x0b, &body));
    live.publisher.finish(live.upstream);
    super::subscribe::is_done(&live, &[PublishDoneCode::TRACK_ENDED])
}

fn refused(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = publisher.subscribed()?;
    let body = [[0x10, 0, 3].map(wide).concat(), b"not".to_vec()].concat();
    publisher.send(upstream, &build::wide_frame(0x05, &body));
    publisher.finish(upstream);
    peer.refused(stream, &[0x10])
}

fn update(stage: &Stage<'_>) -> Outcome {
    let live = live(stage)?;
    // SUBSCRIBER_PRIORITY, whose value is one byte whatever it is.
    let body = [[2, 1, 0x20].map(wide).concat(), vec![3]].concat();
    live.subscriber.send(live.downstream, &build::wide_frame(0x02, &body));
    refused_or_ok(&live.subscriber, live.downstream)?;
    live.subscriber.request_id();
    live.subscriber.answers()
}

fn accepted(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let id = watcher.request_id();
    let stream = watcher.request(&build::subscribe_tracks(id, &stage.namespace, build::none()));
    watcher.ok(stream)?;
    let publisher = stage.session()?;
    let id = publisher.request_id();
    let publish = publisher.request(&build::publish(id, &stage.track("t"), ALIAS));
    let (offer, message) = watcher.incoming()?;
    let Message::Publish(offered) = message else {
        return Err(Failure::new("PUBLISH", name(&message)));
    };
    watcher.send(offer, &build::wide_frame(0x07, &wide(0)));
    publisher.ok(publish)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"x");
    publisher.unidirectional(&subgroup.take());
    watcher
        .await_subgroups(offered.track_alias.0, "the object", |list| {
            list.iter().any(|it| !it.objects.is_empty())
        })
        .map(drop)
}

fn goaway(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let body = if stage.version.number() == 18 { wide(1) } else { Vec::new() };
    let body = [wide(0), wide(1_000), body].concat();
    peer.send(Peer::CONTROL, &build::wide_frame(0x10, &body));
    let id = peer.request_id();
    let stream = peer.request(&build::track_status(id, &build::nobodys_track()));
    refused_or_ok(&peer, stream)
}

//! FETCH: what was, from a cache or from the publisher.

use aip_codec::{
    Version,
    moqt::{
        error_code::RequestCode,
        id::{RequestId, SubgroupId},
        location::Location,
        message::{Fetch, FetchOk, FetchTarget, Message},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
        stream::fetch::{Encoder, FetchHeader, FetchObject, RangeKind},
    },
};
use bytes::{BufMut as _, BytesMut};

use crate::conformance::{
    build,
    case::{Case, case},
    data::{Fetched, Record},
    failure::{Failure, Outcome, ensure},
    peer::{Peer, name},
    quic::End,
    stage::{ALIAS, Live, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("fetch", "FETCH gives what a subscriber of the track has got", "3.2", range),
        case("fetch-descending", "GROUP_ORDER 2 gives the newest group first", "3.2", descending),
        case("fetch-fields", "a fetched object has all its fields (R27)", "11.4.1", fields),
        case("fetch-upstream", "what a relay does not have, it fetches (R6)", "7.4", upstream),
        case("fetch-ok-waits", "FETCH_OK comes when its end is known (R6)", "7.4", ok_waits),
        case("fetch-empty-range", "a range without objects is a header and FIN", "3.2", empty),
        case("fetch-beyond-largest", "a range that begins past the end is refused", "3.2", beyond),
        case(
            "fetch-refused-upstream",
            "a publisher's refusal reaches who fetches",
            "7.4",
            refused_upstream,
        ),
        case("fetch-cancel", "a FETCH may be cancelled", "3.2", cancel),
        case("fetch-cut-to-largest", "a FETCH ends at the largest object", "3.2", cut_to_largest),
        case("fetch-hole", "what is not known is never said not to exist (D6)", "11.4.1", hole),
        case(
            "fetch-joining-relative",
            "a joining FETCH gives the groups before a subscription",
            "3.2",
            joining_relative,
        )
        .drafts(18..=19),
        case(
            "fetch-joining-absolute",
            "a joining FETCH from a group gives it and what follows",
            "3.2",
            joining_absolute,
        )
        .drafts(18..=19),
        case(
            "fetch-joining-unknown",
            "a joining FETCH of no subscription is refused",
            "3.2",
            joining_unknown,
        )
        .drafts(18..=19),
        case(
            "fetch-datagram-object",
            "a datagram's object is fetched as one",
            "11.4.1",
            datagram_object,
        ),
    ]
}

/// Track `t` with two groups of two objects at the relay: {1, 0} to {2, 1}, and groups ended.
pub(super) fn filled(stage: &Stage<'_>) -> Outcome<Live> {
    let live = stage.live(build::none())?;
    for group in [1, 2] {
        let mut header = build::Subgroup::new(ALIAS, group, 0).header;
        header.end_of_group = true;
        let mut subgroup = build::Subgroup::with(header)
            .object(0, format!("{group}/0").as_bytes())
            .object(1, format!("{group}/1").as_bytes());
        let stream = live.publisher.unidirectional(&subgroup.take());
        live.publisher.finish(stream);
        live.subscriber.await_subgroups(live.alias(), "the group", |list| {
            list.iter().any(|it| it.group() == group && it.end == Some(End::Finished))
        })?;
    }
    Ok(live)
}

/// Fetches; gives FETCH_OK and the whole answer. The publisher answers whatever it is asked with
/// the objects of [`filled`].
fn fetch(
    live: &Live,
    start: Location,
    end: Location,
    parameters: Parameters,
) -> Outcome<(FetchOk, Fetched)> {
    fetch_of(&filled_objects(), live, start, end, parameters)
}

/// Fetches from a track that has these objects.
fn fetch_of(
    has: &[Has],
    live: &Live,
    start: Location,
    end: Location,
    parameters: Parameters,
) -> Outcome<(FetchOk, Fetched)> {
    let order = parameters.group_order().unwrap_or_default();
    let peer = &live.subscriber;
    let id = peer.request_id();
    let stream = peer.request(&build::fetch(peer.version, id, &live.track, start, end, parameters));
    finish_fetch(has, live, id, stream, order)
}

fn finish_fetch(
    has: &[Has],
    live: &Live,
    id: RequestId,
    stream: u64,
    order: GroupOrder,
) -> Outcome<(FetchOk, Fetched)> {
    let peer = &live.subscriber;
    let mut ok = None;
    let fetched = peer.until("FETCH_OK and a fetch stream that ends", |peer| {
        if ok.is_none() {
            ok = peer.heard_within(stream, std::time::Duration::ZERO).ok();
        }
        serve_upstream(&live.publisher, has);
        match peer.fetched(id.0, order) {
            Ok(Some(fetched)) if fetched.end.is_some() && ok.is_some() => Some(Ok(fetched)),
            Ok(_) => matches!(
                &ok,
                Some(crate::conformance::peer::Heard::Message(Message::RequestError(_)))
            )
            .then(|| Err(Failure::new("FETCH_OK", format!("{ok:?}")))),
            Err(failure) => Some(Err(failure)),
        }
    })??;
    match ok {
        Some(crate::conformance::peer::Heard::Message(Message::FetchOk(ok))) => Ok((ok, fetched)),
        other => Err(Failure::new("FETCH_OK", format!("{other:?}"))),
    }
}

/// Waits for a fill or FETCH answer to end, while the publisher serves what the relay lacks.
pub(super) fn await_served(
    publisher: &Peer,
    peer: &Peer,
    request: u64,
    order: GroupOrder,
) -> Outcome<Fetched> {
    peer.until("a fetch stream and its end", |peer| {
        serve_upstream(publisher, &filled_objects());
        match peer.fetched(request, order) {
            Ok(Some(fetched)) if fetched.end.is_some() => Some(Ok(fetched)),
            Ok(_) => None,
            Err(failure) => Some(Err(failure)),
        }
    })?
}

/// An object that a case's track has, and its payload.
pub(super) type Has = (FetchObject, String);

fn has(group: u64, object: u64, payload: impl Into<String>) -> Has {
    let payload = payload.into();
    let object = FetchObject {
        location: build::at(group, object),
        subgroup: Some(SubgroupId(0)),
        priority: 128,
        properties: Properties::empty(),
        payload_length: payload.len() as u64,
    };
    (object, payload)
}

/// The objects of [`filled`].
pub(super) fn filled_objects() -> [Has; 4] {
    [(1, 0), (1, 1), (2, 0), (2, 1)]
        .map(|(group, object)| has(group, object, format!("{group}/{object}")))
}

/// Answers a FETCH that the relay makes, as a publisher whose track has these objects.
pub(super) fn serve_upstream(publisher: &Peer, has: &[Has]) {
    let Ok((stream, Message::Fetch(fetch))) = publisher.incoming_within(std::time::Duration::ZERO)
    else {
        return;
    };
    let order = fetch.parameters.group_order().unwrap_or_default();
    let range = range_of(&fetch);
    let largest = has.iter().map(|(object, _)| object.location).max().unwrap_or_default();
    // The end of the answer is inside what was asked for.
    let end = largest.min(*range.end());
    let end = if end.object.0 == u64::MAX { build::at(end.group.0, 1) } else { end };
    publisher.say(stream, &build::fetch_ok(publisher.version, end, false));
    let mut objects: Vec<Has> =
        has.iter().filter(|(object, _)| range.contains(&object.location)).cloned().collect();
    if order == GroupOrder::Descending {
        objects
            .sort_by_key(|(object, _)| (std::cmp::Reverse(object.location.group), object.location));
    }
    let data =
        publisher.unidirectional(&stream_of(publisher.version, fetch.request_id, order, &objects));
    publisher.finish(data);
}

/// What a FETCH asks for.
fn range_of(fetch: &Fetch) -> std::ops::RangeInclusive<Location> {
    use aip_codec::moqt::filter::LocationFilter;
    let whole = |group| build::at(group, u64::MAX);
    match (&fetch.target, fetch.parameters.location_filter()) {
        (FetchTarget::Standalone { start, end, .. }, _) => {
            let last = end
                .object
                .0
                .checked_sub(1)
                .map_or_else(|| whole(end.group.0), |object| build::at(end.group.0, object));
            *start..=last
        }
        (_, Some(LocationFilter::Range { start, end })) => start..=end,
        (_, Some(LocationFilter::Groups { start, end_group })) => start..=whole(end_group.0),
        (_, Some(LocationFilter::Start { start })) => start..=whole(u64::MAX),
        _ => build::at(0, 0)..=whole(u64::MAX),
    }
}

fn stream_of(
    version: Version,
    request_id: RequestId,
    order: GroupOrder,
    objects: &[Has],
) -> BytesMut {
    let mut bytes = BytesMut::new();
    FetchHeader { request_id }.encode(&mut bytes);
    let mut encoder = Encoder::new(version, order);
    for (object, payload) in objects {
        encoder.object(object, &mut bytes).expect("a case's objects are in their order");
        bytes.put_slice(payload.as_bytes());
    }
    bytes
}

fn is(fetched: &Fetched, wanted: &[(u64, u64)]) -> Outcome {
    let came: Vec<_> = fetched.objects();
    let same = came.len() == wanted.len()
        && came.iter().zip(wanted).all(|((location, payload), (group, object))| {
            *location == build::at(*group, *object)
                && payload == format!("{group}/{object}").as_bytes()
        });
    ensure(
        same && fetched.end == Some(End::Finished),
        format!("objects {wanted:?}, then FIN"),
        fetched,
    )
}

fn range(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    let (ok, fetched) = fetch(&live, build::at(1, 0), build::at(2, 1), build::none())?;
    is(&fetched, &[(1, 0), (1, 1), (2, 0), (2, 1)])?;
    let end = build::fetch_ok_end(stage.version, &ok);
    ensure(end.is_none_or(|end| end == build::at(2, 1)), "End Location {2, 1}", ok)?;
    let (_, fetched) = fetch(&live, build::at(1, 1), build::at(2, 0), build::none())?;
    is(&fetched, &[(1, 1), (2, 0)])
}

fn descending(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    let parameters = build::with(Parameter::GroupOrder(GroupOrder::Descending));
    let (_, fetched) = fetch(&live, build::at(1, 0), build::at(2, 1), parameters)?;
    is(&fetched, &[(2, 0), (2, 1), (1, 0), (1, 1)])
}

fn fields(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let properties = Properties::builder()
        .integer(0x3802, 77)
        .bytes(0x3805, &b"opaque"[..])
        .build()
        .unwrap_or_default();
    let mut header = build::Subgroup::new(ALIAS, 1, 3).header;
    header.priority = Some(17);
    header.properties = true;
    let mut subgroup = build::Subgroup::with(header).object_with(5, b"x", properties.clone());
    let stream = live.publisher.unidirectional(&subgroup.take());
    live.publisher.finish(stream);
    live.subscriber.await_subgroups(live.alias(), "the object", |list| {
        list.iter().any(|it| !it.objects.is_empty())
    })?;
    let object = FetchObject {
        location: build::at(1, 5),
        subgroup: Some(SubgroupId(3)),
        priority: 17,
        properties: properties.clone(),
        payload_length: 1,
    };
    let has = [(object, "x".to_owned())];
    let (_, fetched) = fetch_of(&has, &live, build::at(1, 5), build::at(1, 5), build::none())?;
    let wanted = Record::Object {
        location: build::at(1, 5),
        subgroup: Some(3),
        priority: 17,
        properties: properties.as_bytes().clone(),
        payload: "x".into(),
    };
    let objects: Vec<_> =
        fetched.records.iter().filter(|it| matches!(it, Record::Object { .. })).collect();
    ensure(objects == [&wanted], format!("{wanted:?}"), &fetched.records)
}

fn upstream(stage: &Stage<'_>) -> Outcome {
    let said = build::with(Parameter::LargestObject(build::at(2, 1)));
    let properties = Properties::empty();
    let live = stage.live_with(build::none(), said, properties)?;
    let (_, fetched) = fetch(&live, build::at(1, 0), build::at(2, 1), build::none())?;
    is(&fetched, &[(1, 0), (1, 1), (2, 0), (2, 1)])
}

fn ok_waits(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(9, 9));
    let fetch = build::fetch(peer.version, id, &stage.track("t"), start, end, build::none());
    let stream = peer.request(&fetch);
    peer.answers()?;
    if let Ok(early) = peer.heard_within(stream, std::time::Duration::from_millis(150)) {
        return Err(Failure::new("no answer before the publisher's", format!("{early:?}")));
    }
    // A relay that subscribes to learn of the end is told {9, 9}.
    let (upstream, asked) = publisher.fetched_from()?;
    let largest = build::at(9, 9);
    publisher.say(upstream, &build::fetch_ok(stage.version, largest, false));
    let order = asked.parameters.group_order().unwrap_or_default();
    let mut objects = vec![has(1, 0, "1/0"), has(9, 9, "9/9")];
    if order == GroupOrder::Descending {
        objects.reverse();
    }
    let data =
        publisher.unidirectional(&stream_of(stage.version, asked.request_id, order, &objects));
    publisher.finish(data);
    match peer.message(stream)? {
        Message::FetchOk(ok) => {
            let end = build::fetch_ok_end(stage.version, &ok);
            ensure(end == Some(largest), "End Location {9, 9}", ok)?;
        }
        other => return Err(Failure::new("FETCH_OK", name(&other))),
    }
    let fetched = peer.await_fetched(id.0, GroupOrder::Ascending)?;
    is(&fetched, &[(1, 0), (9, 9)])
}

fn empty(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    // Group 1 ended with object 1.
    let (_, fetched) = fetch(&live, build::at(1, 5), build::at(1, 9), build::none())?;
    ensure(fetched.objects().is_empty(), "no object", &fetched.records)?;
    ensure(fetched.end == Some(End::Finished), "FIN", fetched.end)
}

fn beyond(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    let peer = &live.subscriber;
    let id = peer.request_id();
    let (start, end) = (build::at(700, 0), build::at(800, 0));
    let parameters = build::none();
    let stream = peer.request(&build::fetch(peer.version, id, &live.track, start, end, parameters));
    // A relay may ask the publisher, which has no more either.
    if let Ok((upstream, Message::Fetch(_))) =
        live.publisher.incoming_within(std::time::Duration::from_millis(200))
    {
        live.publisher.say(upstream, &build::request_error(RequestCode::INVALID_RANGE));
    }
    peer.refused(stream, &[RequestCode::INVALID_RANGE.0])
}

fn refused_upstream(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(9, 9));
    let fetch = build::fetch(peer.version, id, &stage.track("t"), start, end, build::none());
    let stream = peer.request(&fetch);
    // However the relay asks: by SUBSCRIBE, by FETCH, or one after the other.
    peer.until("an answer to FETCH", |peer| {
        if let Ok((upstream, _)) = publisher.incoming_within(std::time::Duration::ZERO) {
            publisher.say(upstream, &build::request_error(RequestCode::DOES_NOT_EXIST));
            publisher.finish(upstream);
        }
        peer.has_heard(stream).then_some(())
    })?;
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])
}

fn cancel(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    let peer = &live.subscriber;
    for _ in 0..5 {
        let id = peer.request_id();
        let (start, end) = (build::at(1, 0), build::at(2, 1));
        let fetch = build::fetch(peer.version, id, &live.track, start, end, build::none());
        let stream = peer.request(&fetch);
        peer.reset(stream, 1);
        peer.stop(stream, 1);
    }
    peer.answers()?;
    live.publisher.answers()
}

fn cut_to_largest(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    let (ok, fetched) = fetch(&live, build::at(2, 0), build::at(9, 9), build::none())?;
    is(&fetched, &[(2, 0), (2, 1)])?;
    let end = build::fetch_ok_end(stage.version, &ok);
    ensure(end.is_none_or(|end| end <= build::at(9, 9)), "an End Location in the range", ok)
}

fn hole(stage: &Stage<'_>) -> Outcome {
    let live = filled(stage)?;
    // Group 5 begins; what lay between is known to nobody, and the publisher is gone.
    let mut subgroup = build::Subgroup::new(ALIAS, 5, 0).object(0, b"5/0");
    live.publisher.unidirectional(&subgroup.take());
    live.subscriber.await_subgroups(live.alias(), "group 5", |list| {
        list.iter().any(|it| it.group() == 5 && !it.objects.is_empty())
    })?;
    live.publisher.close(0);
    let peer = &live.subscriber;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(5, 0));
    let fetch = build::fetch(peer.version, id, &live.track, start, end, build::none());
    let stream = peer.request(&fetch);
    match peer.heard_within(stream, std::time::Duration::from_secs(15))? {
        crate::conformance::peer::Heard::Message(Message::FetchOk(_)) => {}
        // Nothing may be said of a track without a publisher.
        _ => return Ok(()),
    }
    let fetched = peer.await_fetched(id.0, GroupOrder::Ascending)?;
    // Groups 3 and 4 may be unknown, timed out, or cut off by a reset: but not nothing at all,
    // which would say that they do not exist.
    let said = fetched.records.iter().any(|record| {
        matches!(record, Record::Range { kind: RangeKind::Unknown | RangeKind::TimedOut, .. })
    });
    ensure(said || fetched.end != Some(End::Finished), "an unknown range, or a reset", fetched)
}

fn join(live: &Live, relative: bool, start: u64, of: u64) -> Outcome<(RequestId, u64)> {
    let peer = &live.subscriber;
    let id = peer.request_id();
    let target = FetchTarget::Joining { relative, request_id: RequestId(of), start };
    let fetch = Fetch { request_id: id, target, parameters: build::none() };
    Ok((id, peer.request(&Message::Fetch(fetch))))
}

/// [`filled`], and a second session that has subscribed since.
fn joined(stage: &Stage<'_>) -> Outcome<Live> {
    let live = filled(stage)?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &live.track, build::none()));
    let ok = subscriber.subscribe_ok(stream)?;
    Ok(Live { subscriber, downstream: stream, request: id.0, ok, ..live })
}

fn joining_relative(stage: &Stage<'_>) -> Outcome {
    let live = joined(stage)?;
    let (id, stream) = join(&live, true, 1, live.request)?;
    let (_, fetched) = finish_fetch(&filled_objects(), &live, id, stream, GroupOrder::Ascending)?;
    is(&fetched, &[(1, 0), (1, 1), (2, 0), (2, 1)])
}

fn joining_absolute(stage: &Stage<'_>) -> Outcome {
    let live = joined(stage)?;
    let (id, stream) = join(&live, false, 2, live.request)?;
    let (_, fetched) = finish_fetch(&filled_objects(), &live, id, stream, GroupOrder::Ascending)?;
    is(&fetched, &[(2, 0), (2, 1)])
}

fn joining_unknown(stage: &Stage<'_>) -> Outcome {
    let live = joined(stage)?;
    // A number that another request has: one that nobody has yet may be that of a SUBSCRIBE under way.
    let used = live.subscriber.request_id();
    let status = live.subscriber.request(&build::track_status(used, &live.track));
    live.subscriber.heard(status)?;
    let (_, stream) = join(&live, true, 1, used.0)?;
    live.subscriber.refused(stream, &[RequestCode::INVALID_JOINING_REQUEST_ID.0])
}

fn datagram_object(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    // Group 1, object 1, priority 9.
    live.publisher.datagram(&build::hex("00 07 01 01 09 312f31"))?;
    live.subscriber.object_datagram(crate::conformance::peer::PATIENCE)?;
    let (object, payload) = has(1, 1, "1/1");
    let has = [(FetchObject { subgroup: None, priority: 9, ..object }, payload)];
    let (_, fetched) = fetch_of(&has, &live, build::at(1, 1), build::at(1, 1), build::none())?;
    let subgroups: Vec<_> = fetched
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Object { subgroup, priority, .. } => Some((*subgroup, *priority)),
            Record::Range { .. } => None,
        })
        .collect();
    ensure(subgroups == [(None, 9)], "one object, of a datagram, priority 9", &fetched.records)
}

//! Fills: what was, along with a subscription (drafts 20 and later).

use aip_codec::moqt::{
    filter::LocationFilter,
    parameter::{GroupOrder, Parameter, Parameters},
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Outcome, ensure},
    peer::Peer,
    stage::{Live, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "fill-current-group",
            "a fill of the current group comes with a subscription (R25)",
            "3.4",
            current_group,
        ),
        case(
            "fill-whole-track",
            "a fill without a filter is the whole track (R25)",
            "3.4",
            whole_track,
        ),
        case("fill-by-update", "an update may ask for a fill", "3.4", by_update),
        case(
            "fill-forward-zero",
            "a fill of a paused subscription does nothing",
            "3.4",
            forward_zero,
        ),
        case("fill-descending", "a fill may have an order of its own", "3.4", descending),
        case("fill-stop-one", "STOP_SENDING of a fill leaves the subscription be", "3.4.1", stop),
        case(
            "fill-without-count",
            "parameters of a fill are understood without their count, too",
            "9.20",
            bare,
        ),
    ]
    .into_iter()
    .map(|case| case.drafts(20..=22))
    .collect()
}

fn fill(parameters: Parameters) -> Parameters {
    build::with(Parameter::FillParameters(parameters))
        .with(Parameter::LocationFilter(LocationFilter::NextObject))
}

fn from(filter: LocationFilter) -> Parameters {
    build::with(Parameter::LocationFilter(filter))
}

/// A second subscriber, which asks for a fill; its request's number.
fn filled(stage: &Stage<'_>, parameters: Parameters) -> Outcome<(Live, Peer, u64, u64)> {
    let live = super::fetch::filled(stage)?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &live.track, parameters));
    peer.subscribe_ok(stream)?;
    Ok((live, peer, id.0, stream))
}

fn is(live: &Live, peer: &Peer, request: u64, order: GroupOrder, wanted: &[(u64, u64)]) -> Outcome {
    let fetched = super::fetch::await_served(&live.publisher, peer, request, order)?;
    let came: Vec<_> = fetched.objects().iter().map(|(at, _)| (at.group.0, at.object.0)).collect();
    ensure(came == wanted, format!("objects {wanted:?}"), fetched.records)
}

fn current_group(stage: &Stage<'_>) -> Outcome {
    let current = from(LocationFilter::Relative { groups_back: 1 });
    let (live, peer, request, _) = filled(stage, fill(current))?;
    is(&live, &peer, request, GroupOrder::Ascending, &[(2, 0), (2, 1)])
}

fn whole_track(stage: &Stage<'_>) -> Outcome {
    let (live, peer, request, _) = filled(stage, fill(from(LocationFilter::None)))?;
    is(&live, &peer, request, GroupOrder::Ascending, &[(1, 0), (1, 1), (2, 0), (2, 1)])
}

fn by_update(stage: &Stage<'_>) -> Outcome {
    let (live, peer, _, stream) = filled(stage, build::none())?;
    let id = peer.request_id();
    let current = from(LocationFilter::Relative { groups_back: 1 });
    let parameters = build::with(Parameter::FillParameters(current));
    peer.say(stream, &build::update(id, parameters));
    peer.ok(stream)?;
    is(&live, &peer, id.0, GroupOrder::Ascending, &[(2, 0), (2, 1)])
}

fn forward_zero(stage: &Stage<'_>) -> Outcome {
    let parameters = fill(from(LocationFilter::None)).with(Parameter::Forward(false));
    let (_live, peer, _, _) = filled(stage, parameters)?;
    peer.answers()?;
    let streams = peer.data_streams().len();
    ensure(streams == 0, "no stream", streams)
}

fn descending(stage: &Stage<'_>) -> Outcome {
    let order = Parameter::GroupOrder(GroupOrder::Descending);
    let (live, peer, request, _) = filled(stage, fill(from(LocationFilter::None).with(order)))?;
    is(&live, &peer, request, GroupOrder::Descending, &[(2, 0), (2, 1), (1, 0), (1, 1)])
}

fn stop(stage: &Stage<'_>) -> Outcome {
    let (live, peer, request, _) = filled(stage, fill(from(LocationFilter::None)))?;
    let fetched = peer.until("a fill's stream", |peer| {
        super::fetch::serve_upstream(&live.publisher, &super::fetch::filled_objects());
        peer.fetched(request, GroupOrder::Ascending).ok().flatten()
    })?;
    peer.stop(fetched.stream, 1);
    let mut subgroup =
        build::Subgroup::new(crate::conformance::stage::ALIAS, 3, 0).object(0, b"live");
    live.publisher.unidirectional(&subgroup.take());
    peer.until("the live object", |peer| {
        let list = peer.every_subgroup().ok()?;
        list.iter().any(|it| it.group() == 3 && !it.objects.is_empty()).then_some(())
    })
}

fn bare(stage: &Stage<'_>) -> Outcome {
    let live = super::fetch::filled(stage)?;
    let peer = stage.session()?;
    let id = peer.request_id();
    // FILL_PARAMETERS that hold GROUP_ORDER 1 and no count, which would be below 0x0A.
    let mut body = build::varint(id.0);
    let mut name = bytes::BytesMut::new();
    live.track.encode(&mut name);
    body.extend_from_slice(&name);
    body.extend(build::hex("01 23 02 22 01"));
    let stream = peer.bidirectional(&build::frame(0x03, &body));
    peer.subscribe_ok(stream)?;
    is(&live, &peer, id.0, GroupOrder::Ascending, &[(1, 0), (1, 1), (2, 0), (2, 1)])
}

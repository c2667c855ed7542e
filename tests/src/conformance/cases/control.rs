//! Setup, announcements and plain requests: the control plane that every client needs.

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    message::Message,
    parameter::Parameter,
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, Peer, name},
    quic::End,
    stage::{ALIAS, Stage},
};

#[expect(clippy::too_many_lines, reason = "a table, one entry a case")]
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("setup-only", "both SETUPs are exchanged and the session ends quietly", "6.3", setup),
        case(
            "setup-early",
            "requests may be sent right behind SETUP, before the relay's",
            "6.3",
            pipelined,
        ),
        case(
            "publish-namespace-only",
            "PUBLISH_NAMESPACE is answered by REQUEST_OK",
            "9.14",
            publish_namespace,
        ),
        case(
            "publish-namespace-done",
            "a namespace may be withdrawn and published again",
            "4.1",
            publish_namespace_done,
        ),
        case(
            "subscribe-error",
            "SUBSCRIBE to what nobody publishes is refused at once",
            "9.6",
            subscribe_error,
        ),
        case(
            "publish-namespace-subscribe",
            "SUBSCRIBE reaches the namespace's publisher",
            "7.6",
            publish_namespace_subscribe,
        ),
        case(
            "subscribe-before-publish-namespace",
            "SUBSCRIBE with RENDEZVOUS_TIMEOUT waits for a publisher",
            "9.20.6",
            subscribe_before_publish_namespace,
        ),
        case(
            "publish-track-only",
            "PUBLISH is answered, and PUBLISH_DONE ends it",
            "9.8",
            publish_track,
        ),
        case(
            "publish-track-subscribe",
            "SUBSCRIBE to a published track is accepted",
            "7.6",
            publish_track_subscribe,
        ),
        case(
            "rendezvous-timeout",
            "a SUBSCRIBE that waited in vain ends with TIMEOUT",
            "9.20.6",
            rendezvous_timeout,
        ),
        case(
            "track-status-none",
            "TRACK_STATUS of what nobody publishes is refused",
            "9.13",
            track_status_none,
        ),
        case(
            "track-status-live",
            "TRACK_STATUS of a live track tells its largest object",
            "9.13",
            track_status_live,
        ),
        case("fetch-error", "FETCH of what nobody publishes is refused", "9.11", fetch_error),
        case(
            "request-out-of-order",
            "request ids may arrive in any order",
            "6.4.2.1",
            out_of_order,
        ),
        case(
            "fin-after-request",
            "a requester may end its direction and is still answered",
            "6.4.2.3",
            fin_after_request,
        )
        .drafts(19..=22),
        case(
            "cancel-pending",
            "a request may be cancelled before it is answered",
            "6.4.2.3",
            cancel_pending,
        ),
        case(
            "many-requests",
            "a hundred requests at one time are all answered",
            "6.4.2",
            many_requests,
        ),
        case("goaway-accepted", "GOAWAY of a client without a URI is no fault", "9.2", goaway),
        case(
            "goaway-request",
            "GOAWAY on a request's stream leaves the session be",
            "9.2",
            goaway_request,
        ),
    ]
}

fn setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    peer.answers()?;
    peer.close(0);
    Ok(())
}

fn pipelined(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let stream = peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    let control = peer.unidirectional(&[]);
    peer.send(control, &build::frame(0x2f00, &[]));
    peer.await_setup()?;
    refused_or_ok(&peer, stream)
}

/// Whichever answer: it is one.
pub(super) fn refused_or_ok(peer: &Peer, stream: u64) -> Outcome {
    match peer.message(stream)? {
        Message::RequestOk(_) | Message::RequestError(_) => Ok(()),
        other => Err(Failure::new("an answer", name(&other))),
    }
}

fn publish_namespace(stage: &Stage<'_>) -> Outcome {
    stage.publisher().map(drop)
}

fn publish_namespace_done(stage: &Stage<'_>) -> Outcome {
    let (peer, stream) = stage.publisher()?;
    peer.reset(stream, 1);
    peer.stop(stream, 1);
    // Withdrawn: nobody is asked for its tracks any more.
    let subscriber = stage.session()?;
    subscriber.until("the namespace withdrawn", |subscriber| {
        let id = subscriber.request_id();
        let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
        match peer_refuses(&peer, subscriber, stream) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(failure) => Some(Err(failure)),
        }
    })??;
    peer.announce(&stage.namespace).map(drop)
}

/// Whether the relay refuses a SUBSCRIBE itself; if it asks the publisher, that refuses.
fn peer_refuses(publisher: &Peer, subscriber: &Peer, stream: u64) -> Outcome<bool> {
    let mut asked = false;
    let answer = loop {
        let soon = std::time::Duration::from_millis(50);
        if let Ok((upstream, Message::Subscribe(_))) = publisher.incoming_within(soon) {
            asked = true;
            publisher.say(upstream, &build::request_error(RequestCode::DOES_NOT_EXIST));
        }
        if let Ok(heard) = subscriber.heard_within(stream, soon) {
            break heard;
        }
    };
    match answer {
        Heard::Message(Message::RequestError(_)) => Ok(!asked),
        other => Err(Failure::new("REQUEST_ERROR", format!("{other:?}"))),
    }
}

fn subscribe_error(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let track = build::nobodys_track();
    let stream = peer.request(&build::subscribe(peer.request_id(), &track, build::none()));
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])
}

fn publish_namespace_subscribe(stage: &Stage<'_>) -> Outcome {
    stage.live(build::none()).map(drop)
}

fn subscribe_before_publish_namespace(stage: &Stage<'_>) -> Outcome {
    let subscriber = stage.session()?;
    let parameters = build::with(Parameter::RendezvousTimeout(4_000));
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), parameters));
    subscriber.answers()?;
    let (publisher, _) = stage.publisher()?;
    let (upstream, _) = publisher.subscribed()?;
    publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    subscriber.subscribe_ok(stream).map(drop)
}

fn publish_track(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let stream = peer.request(&build::publish(peer.request_id(), &stage.track("t"), ALIAS));
    peer.ok(stream)?;
    peer.say(stream, &build::publish_done(PublishDoneCode::TRACK_ENDED, Some(0)));
    peer.finish(stream);
    peer.answers()
}

fn publish_track_subscribe(stage: &Stage<'_>) -> Outcome {
    let publisher = stage.session()?;
    let track = stage.track("t");
    let stream = publisher.request(&build::publish(publisher.request_id(), &track, ALIAS));
    publisher.ok(stream)?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &track, build::none()));
    subscriber.subscribe_ok(stream).map(drop)
}

fn rendezvous_timeout(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let parameters = build::with(Parameter::RendezvousTimeout(700));
    let track = build::nobodys_track();
    let stream = peer.request(&build::subscribe(peer.request_id(), &track, parameters));
    peer.refused(stream, &[RequestCode::TIMEOUT.0])
}

fn track_status_none(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let stream = peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    let end = peer.ended(stream)?;
    ensure(end == End::Finished, "FIN after the answer", end)
}

fn track_status_live(stage: &Stage<'_>) -> Outcome {
    let largest = aip_codec::moqt::location::Location::new(3, 4);
    let said = build::with(Parameter::LargestObject(largest));
    let live =
        stage.live_with(build::none(), said, aip_codec::moqt::property::Properties::empty())?;
    let peer = stage.session()?;
    let stream = peer.request(&build::track_status(peer.request_id(), &live.track));
    let ok = peer.ok(stream)?;
    let told = ok.parameters.largest_object();
    ensure(told == Some(largest), "LARGEST_OBJECT {3, 4}", told)?;
    let end = peer.ended(stream)?;
    ensure(end == End::Finished, "FIN after the answer", end)
}

fn fetch_error(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let (start, end) = (build::at(0, 0), build::at(9, 9));
    let id = peer.request_id();
    let track = build::nobodys_track();
    let fetch = build::fetch(peer.version, id, &track, start, end, build::none());
    let stream = peer.request(&fetch);
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0, RequestCode::INVALID_RANGE.0])
}

fn out_of_order(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let ids = [peer.request_id(), peer.request_id(), peer.request_id()];
    for index in [2, 0, 1] {
        let stream = peer.request(&build::track_status(ids[index], &build::nobodys_track()));
        refused_or_ok(&peer, stream)?;
    }
    peer.answers()
}

fn fin_after_request(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    subscriber.finish(stream);
    let (upstream, _) = publisher.subscribed()?;
    publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    let ok = subscriber.subscribe_ok(stream)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"still subscribed");
    publisher.unidirectional(&subgroup.take());
    let complete = |list: &[crate::conformance::data::Subgroup]| {
        list.iter().any(|subgroup| !subgroup.objects.is_empty())
    };
    subscriber
        .await_subgroups(ok.track_alias.0, "an object, since FIN is not unsubscribe", complete)
        .map(drop)
}

fn cancel_pending(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    for _ in 0..5 {
        let parameters = build::with(Parameter::RendezvousTimeout(10_000));
        let track = build::nobodys_track();
        let stream = peer.request(&build::subscribe(peer.request_id(), &track, parameters));
        peer.answers()?;
        peer.reset(stream, 1);
        peer.stop(stream, 1);
    }
    peer.answers()
}

fn many_requests(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let ask = |_| peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    let streams: Vec<u64> = (0..100).map(ask).collect();
    streams.into_iter().try_for_each(|stream| refused_or_ok(&peer, stream))
}

fn goaway(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    peer.say(Peer::CONTROL, &build::goaway(peer.version, "", true));
    // The draft lets either side refuse requests now, but not close.
    let stream = peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    refused_or_ok(&peer, stream)
}

fn goaway_request(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.subscriber.say(live.downstream, &build::goaway(stage.version, "", false));
    live.subscriber.answers()
}

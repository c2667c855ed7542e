//! REQUEST_UPDATE and PUBLISH_STATE_NOTIFY.

use std::time::Duration;

use aip_codec::moqt::{
    error_code::SessionCode, message::Message, parameter::Parameter, token::Token,
};
use bytes::Bytes;

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, PATIENCE, name},
    stage::{ALIAS, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("update-answered", "each REQUEST_UPDATE has its REQUEST_OK", "9.5", answered),
        case(
            "update-pause",
            "a paused subscription gets no objects until it is resumed",
            "9.20",
            pause,
        ),
        case("update-priority", "a subscription's priority may change", "9.20", priority),
        case("update-fetch", "a FETCH's update is answered or the FETCH is over", "9.5", fetch),
        case("update-publish-namespace", "PUBLISH_NAMESPACE may be updated", "9.5", namespace),
        case(
            "update-publish",
            "who publishes a track may update its PUBLISH, and is answered",
            "9.5",
            publish,
        ),
        case("update-subscribe-tracks", "SUBSCRIBE_TRACKS may be updated", "9.5", tracks),
        case(
            "update-too-many",
            "more unanswered updates than allowed end the session",
            "9.1",
            too_many,
        )
        .drafts(19..=22)
        .hostile(),
        case("state-notify", "PUBLISH_STATE_NOTIFY of a publisher is no fault", "9.10", notify)
            .drafts(20..=22),
    ]
}

fn answered(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    for priority in [1, 2, 3] {
        let parameters = build::with(Parameter::SubscriberPriority(priority));
        live.subscriber
            .say(live.downstream, &build::update(live.subscriber.request_id(), parameters));
    }
    (0..3).try_for_each(|_| live.subscriber.ok(live.downstream).map(drop))
}

fn pause(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let set = |forward| {
        let parameters = build::with(Parameter::Forward(forward));
        live.subscriber
            .say(live.downstream, &build::update(live.subscriber.request_id(), parameters));
        live.subscriber.ok(live.downstream)
    };
    set(false)?;
    let mut first = build::Subgroup::new(ALIAS, 1, 0).object(0, b"not wanted");
    let stream = live.publisher.unidirectional(&first.take());
    live.publisher.finish(stream);
    live.publisher.answers()?;
    set(true)?;
    let mut second = build::Subgroup::new(ALIAS, 2, 0).object(0, b"wanted");
    live.publisher.unidirectional(&second.take());
    let came = live.subscriber.await_subgroups(live.alias(), "group 2", |list| {
        list.iter().any(|it| it.group() == 2 && !it.objects.is_empty())
    })?;
    let early: Vec<u64> =
        came.iter().filter(|it| !it.objects.is_empty()).map(|it| it.group()).collect();
    ensure(early == [2], "group 2 alone", early)
}

fn priority(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::with(Parameter::SubscriberPriority(200)))?;
    let parameters = build::with(Parameter::SubscriberPriority(0));
    live.subscriber.say(live.downstream, &build::update(live.subscriber.request_id(), parameters));
    live.subscriber.ok(live.downstream).map(drop)
}

fn fetch(stage: &Stage<'_>) -> Outcome {
    let live = super::fetch::filled(stage)?;
    let peer = &live.subscriber;
    let id = peer.request_id();
    let (start, end) = (build::at(1, 0), build::at(1, 1));
    let parameters = build::none();
    let stream = peer.request(&build::fetch(peer.version, id, &live.track, start, end, parameters));
    let parameters = build::with(Parameter::SubscriberPriority(9));
    peer.say(stream, &build::update(peer.request_id(), parameters));
    match peer.message(stream)? {
        Message::FetchOk(_) => {}
        other => return Err(Failure::new("FETCH_OK", name(&other))),
    }
    match peer.heard(stream)? {
        Heard::Message(Message::RequestOk(_) | Message::RequestError(_)) | Heard::End(_) => {
            peer.answers()
        }
        Heard::Message(other) => Err(Failure::new("an answer to the update", name(&other))),
    }
}

fn namespace(stage: &Stage<'_>) -> Outcome {
    let (peer, stream) = stage.publisher()?;
    peer.say(stream, &build::update(peer.request_id(), build::none()));
    peer.ok(stream).map(drop)
}

fn tracks(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe_tracks(id, &stage.namespace, build::none()));
    peer.ok(stream)?;
    peer.say(stream, &build::update(peer.request_id(), build::none()));
    peer.ok(stream).map(drop)
}

fn too_many(stage: &Stage<'_>) -> Outcome {
    let (_publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let limit = peer.relays_setup().max_request_updates;
    if limit == 0 {
        // None was stated.
        return Ok(());
    }
    // The publisher does not answer, so that the relay cannot either.
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &stage.track("t"), build::none()));
    for _ in 0..=limit {
        peer.say(stream, &build::update(peer.request_id(), build::none()));
    }
    peer.closes_with(&[SessionCode::TOO_MANY_REQUEST_UPDATES.0], PATIENCE)
}

fn notify(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let largest = build::at(1_000, 5);
    let parameters = build::with(Parameter::LargestObject(largest));
    live.publisher.say(
        live.upstream,
        &Message::PublishStateNotify(aip_codec::moqt::message::PublishStateNotify { parameters }),
    );
    live.publisher.answers()?;
    live.subscriber.answers()?;
    let other = stage.session()?;
    let stream = other.request(&build::subscribe(other.request_id(), &live.track, build::none()));
    let told = other.subscribe_ok(stream)?.parameters.largest_object();
    // The draft does not have a relay tell of it, but nothing else would be true.
    ensure(told.is_none_or(|told| told == largest), "LARGEST_OBJECT {1000, 5}, or none", told)?;
    match live.subscriber.heard_within(live.downstream, Duration::from_millis(100)) {
        Ok(Heard::Message(Message::PublishDone(done))) => {
            Err(Failure::new("a live subscription", format!("PUBLISH_DONE {}", done.code)))
        }
        _ => Ok(()),
    }
}

fn publish(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let stream = peer.request(&build::publish(peer.request_id(), &stage.track("t"), ALIAS));
    peer.ok(stream)?;
    let token = Token::UseValue { token_type: 0, value: Bytes::from_static(b"of a test") };
    let parameters = build::with(Parameter::AuthorizationToken(token));
    peer.say(stream, &build::update(peer.request_id(), parameters));
    // The relay may have updates of its own, which are answered.
    loop {
        match peer.message(stream)? {
            Message::RequestOk(_) | Message::RequestError(_) => return peer.answers(),
            Message::RequestUpdate(_) => peer.say(stream, &build::request_ok()),
            other => return Err(Failure::new("an answer to the update", name(&other))),
        }
    }
}

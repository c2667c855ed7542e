//! PUBLISH: tracks that are offered.

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    message::Message,
    parameter::{Parameter, Parameters},
    property::Properties,
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, Peer, name},
    stage::{ALIAS, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("publish-objects", "a published track's objects reach a subscriber", "3.1", objects),
        case(
            "publish-forward",
            "a relay asks for objects when a subscriber wants them (R14)",
            "7.6",
            forward,
        ),
        case("publish-for-waiting", "PUBLISH serves a SUBSCRIBE that waits (R13)", "7.6", waiting),
        case("publish-done-subscriber", "PUBLISH_DONE reaches the subscriber", "9.9", done),
        case(
            "publish-largest-object",
            "LARGEST_OBJECT of PUBLISH is passed on (R7)",
            "9.8",
            largest,
        ),
        case(
            "publish-properties",
            "track properties of PUBLISH are passed on (R10)",
            "9.8",
            properties,
        ),
        case(
            "publish-unknown-mandatory-property",
            "an unknown mandatory track property is refused (R30)",
            "3.7",
            mandatory,
        ),
        case(
            "publish-two-publishers",
            "a track may have two publishers (R21)",
            "7.3",
            two_publishers,
        ),
        case(
            "publish-cancelled",
            "a publisher may cancel, and the relay lives",
            "6.4.2.3",
            cancelled,
        ),
        case(
            "publish-objects-at-once",
            "objects may come before PUBLISH is answered",
            "9.8",
            at_once,
        ),
        case("publish-many", "fifty tracks of one session are all answered", "9.8", many),
    ]
}

/// A session that publishes track `t`, and its request's stream.
fn published(
    stage: &Stage<'_>,
    parameters: Parameters,
    properties: Properties,
) -> Outcome<(Peer, u64)> {
    let peer = stage.session()?;
    let track = stage.track("t");
    let publish = build::publish_with(peer.request_id(), &track, ALIAS, parameters, properties);
    let stream = peer.request(&publish);
    peer.ok(stream)?;
    Ok((peer, stream))
}

/// A session that subscribes to track `t`, its request's stream and the answer.
fn subscribed(stage: &Stage<'_>) -> Outcome<(Peer, u64, aip_codec::moqt::message::SubscribeOk)> {
    let peer = stage.session()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let ok = peer.subscribe_ok(stream)?;
    Ok((peer, stream, ok))
}

fn delivered(peer: &Peer, alias: u64, payload: &[u8]) -> Outcome {
    peer.await_subgroups(alias, "the object", |list| {
        list.iter().flat_map(|it| &it.objects).any(|object| object.payload == payload)
    })
    .map(drop)
}

fn objects(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = published(stage, build::none(), Properties::empty())?;
    let (subscriber, _, ok) = subscribed(stage)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"offered");
    publisher.unidirectional(&subgroup.take());
    delivered(&subscriber, ok.track_alias.0, b"offered")
}

fn forward(stage: &Stage<'_>) -> Outcome {
    let publisher = stage.session()?;
    let (id, track) = (publisher.request_id(), stage.track("t"));
    let paused = build::with(Parameter::Forward(false));
    let publish = build::publish_with(id, &track, ALIAS, paused, Properties::empty());
    let stream = publisher.request(&publish);
    let ok = publisher.ok(stream)?;
    if stage.version.number() < 20 && ok.parameters.forward() != Some(false) {
        // Until draft 19 PUBLISH_OK says whether to forward: it does, if it says nothing.
        return publisher.answers();
    }
    let (_subscriber, _, _) = subscribed(stage)?;
    match publisher.message(stream)? {
        Message::RequestUpdate(update) => {
            let forward = update.parameters.forward();
            ensure(forward == Some(true), "REQUEST_UPDATE with FORWARD 1", forward)
        }
        other => Err(Failure::new("REQUEST_UPDATE with FORWARD 1", name(&other))),
    }
}

fn waiting(stage: &Stage<'_>) -> Outcome {
    let subscriber = stage.session()?;
    let parameters = build::with(Parameter::RendezvousTimeout(4_000));
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), parameters));
    subscriber.answers()?;
    let (_publisher, _) = published(stage, build::none(), Properties::empty())?;
    subscriber.subscribe_ok(stream).map(drop)
}

fn done(stage: &Stage<'_>) -> Outcome {
    let (publisher, stream) = published(stage, build::none(), Properties::empty())?;
    let (subscriber, request, _) = subscribed(stage)?;
    publisher.say(stream, &build::publish_done(PublishDoneCode::TRACK_ENDED, Some(0)));
    publisher.finish(stream);
    match subscriber.message(request)? {
        Message::PublishDone(done) => {
            ensure(done.code == PublishDoneCode::TRACK_ENDED, "TRACK_ENDED", done.code)
        }
        other => Err(Failure::new("PUBLISH_DONE TRACK_ENDED", name(&other))),
    }
}

fn largest(stage: &Stage<'_>) -> Outcome {
    let largest = build::at(70, 3);
    let said = build::with(Parameter::LargestObject(largest));
    let (_publisher, _) = published(stage, said, Properties::empty())?;
    let (_, _, ok) = subscribed(stage)?;
    let told = ok.parameters.largest_object();
    ensure(told == Some(largest), "LARGEST_OBJECT {70, 3}", told)
}

fn properties(stage: &Stage<'_>) -> Outcome {
    let properties = Properties::builder().integer(0x3802, 1).bytes(0x3805, &b"as it is"[..]);
    let properties = properties.build().unwrap_or_default();
    let (_publisher, _) = published(stage, build::none(), properties.clone())?;
    let (_, _, ok) = subscribed(stage)?;
    let (sent, told): (Vec<_>, Vec<_>) =
        (properties.iter().collect(), ok.properties.iter().collect());
    ensure(sent == told, format!("{sent:?}"), told)
}

fn mandatory(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let properties = Properties::builder().integer(0x4ffe, 1).build().unwrap_or_default();
    let (id, track) = (peer.request_id(), stage.track("t"));
    let stream = peer.request(&build::publish_with(id, &track, ALIAS, build::none(), properties));
    peer.refused(stream, &[RequestCode::UNSUPPORTED_EXTENSION.0])?;
    peer.answers()
}

fn two_publishers(stage: &Stage<'_>) -> Outcome {
    let (first, _) = published(stage, build::none(), Properties::empty())?;
    let second = stage.session()?;
    let stream = second.request(&build::publish(second.request_id(), &stage.track("t"), ALIAS));
    // A relay may refuse extra publishers, but has to say so.
    let both = match second.message(stream)? {
        Message::RequestOk(_) => true,
        Message::RequestError(_) => false,
        other => return Err(Failure::new("an answer to PUBLISH", name(&other))),
    };
    let (subscriber, _, ok) = subscribed(stage)?;
    if both {
        drop(first);
        let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"from the second");
        second.unidirectional(&subgroup.take());
        return delivered(&subscriber, ok.track_alias.0, b"from the second");
    }
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"from the first");
    first.unidirectional(&subgroup.take());
    delivered(&subscriber, ok.track_alias.0, b"from the first")
}

fn cancelled(stage: &Stage<'_>) -> Outcome {
    let (publisher, stream) = published(stage, build::none(), Properties::empty())?;
    let (subscriber, request, ok) = subscribed(stage)?;
    publisher.reset(stream, 1);
    publisher.stop(stream, 1);
    publisher.answers()?;
    match subscriber.heard_within(request, std::time::Duration::from_secs(1)) {
        Ok(Heard::Message(Message::PublishDone(_)) | Heard::End(_)) => Ok(()),
        Ok(Heard::Message(other)) => Err(Failure::new("the subscription's end", name(&other))),
        Err(_) => {
            // It was kept, for whoever publishes the track next.
            let (next, _) = published(stage, build::none(), Properties::empty())?;
            let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"from the next");
            next.unidirectional(&subgroup.take());
            delivered(&subscriber, ok.track_alias.0, b"from the next").or_else(|failure| {
                // Or it has ended meanwhile: the drafts do not say by when.
                match subscriber.heard_within(request, std::time::Duration::ZERO) {
                    Ok(Heard::Message(Message::PublishDone(_)) | Heard::End(_)) => Ok(()),
                    _ => Err(failure),
                }
            })
        }
    }
}

fn at_once(stage: &Stage<'_>) -> Outcome {
    let subscriber = stage.session()?;
    let parameters = build::with(Parameter::RendezvousTimeout(4_000));
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), parameters));
    subscriber.answers()?;
    let publisher = stage.session()?;
    // The object's stream overtakes PUBLISH, as it can in any network.
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"early");
    publisher.unidirectional(&subgroup.take());
    let request = build::publish(publisher.request_id(), &stage.track("t"), ALIAS);
    let publish = publisher.request(&request);
    publisher.ok(publish)?;
    let ok = subscriber.subscribe_ok(stream)?;
    let mut later = build::Subgroup::new(ALIAS, 2, 0).object(0, b"later");
    publisher.unidirectional(&later.take());
    // What came before its alias was known may be lost; what comes after may not.
    delivered(&subscriber, ok.track_alias.0, b"later")
}

fn many(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let publish = |alias: u64| {
        let track = stage.track(&alias.to_string());
        peer.request(&build::publish(peer.request_id(), &track, alias))
    };
    let streams: Vec<u64> = (1..=50).map(publish).collect();
    streams.into_iter().try_for_each(|stream| peer.ok(stream).map(drop))
}

//! SUBSCRIBE_TRACKS: a relay offers the tracks of a prefix by PUBLISH.

use std::time::Duration;

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    message::{Message, Publish},
    parameter::Parameter,
    property::Properties,
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Peer, name},
    stage::{ALIAS, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("tracks-later", "a track that is published is offered (R13)", "3.6", later),
        case("tracks-known", "a track that was published before is offered (R13)", "3.6", known),
        case("tracks-objects", "an accepted offer brings objects", "3.6", objects),
        case(
            "tracks-forward-zero",
            "FORWARD 0 of SUBSCRIBE_TRACKS goes into PUBLISH",
            "3.6",
            forward_zero,
        ),
        case("tracks-not-own", "no track is offered to its own publisher (R13)", "7.6", not_own),
        case("tracks-not-asked", "nothing is offered to who did not ask (R17)", "3.6", not_asked),
        case("tracks-cancel", "nothing is offered after cancelling (R17)", "3.6", cancel),
        case("tracks-refused", "an offer that is refused is not made again", "3.6", refused),
        case(
            "tracks-overlap",
            "overlapping prefixes of one session are refused (R18)",
            "3.6",
            overlap,
        ),
        case(
            "tracks-properties",
            "track properties are offered with the track (R10)",
            "3.6",
            properties,
        ),
        case("tracks-done", "PUBLISH_DONE of the publisher ends what was offered", "9.9", done),
    ]
}

/// A session that has asked for this case's tracks.
fn watcher(stage: &Stage<'_>, parameter: Option<Parameter>) -> Outcome<(Peer, u64)> {
    let peer = stage.session()?;
    let parameters = parameter.map_or_else(build::none, build::with);
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe_tracks(id, &stage.namespace, parameters));
    peer.ok(stream)?;
    Ok((peer, stream))
}

/// A session that has sent PUBLISH of track `t`. A relay may hold its answer until those to whom it
/// offers the track have given theirs.
fn publisher(stage: &Stage<'_>, properties: Properties) -> Outcome<(Peer, u64)> {
    let peer = stage.session()?;
    let track = stage.track("t");
    let publish = build::publish_with(peer.request_id(), &track, ALIAS, build::none(), properties);
    let stream = peer.request(&publish);
    Ok((peer, stream))
}

/// Waits for the offer of track `t`.
fn offered(stage: &Stage<'_>, peer: &Peer) -> Outcome<(u64, Publish)> {
    match peer.incoming().map_err(|failure| failure.instead_of("PUBLISH"))? {
        (stream, Message::Publish(publish)) if publish.track == stage.track("t") => {
            Ok((stream, publish))
        }
        (_, other) => Err(Failure::new("PUBLISH of track t", name(&other))),
    }
}

/// No request comes before the relay answers something else, and a little longer.
fn nothing_offered(peer: &Peer) -> Outcome {
    peer.answers()?;
    match peer.incoming_within(Duration::from_millis(150)) {
        Err(_) => Ok(()),
        Ok((_, message)) => Err(Failure::new("no offer", name(&message))),
    }
}

fn later(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, None)?;
    let (_publisher, _) = publisher(stage, Properties::empty())?;
    offered(stage, &watcher).map(drop)
}

fn known(stage: &Stage<'_>) -> Outcome {
    let (publisher, request) = publisher(stage, Properties::empty())?;
    publisher.ok(request)?;
    let (watcher, _) = watcher(stage, None)?;
    offered(stage, &watcher).map(drop)
}

fn objects(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, None)?;
    let (publisher, request) = publisher(stage, Properties::empty())?;
    let (stream, publish) = offered(stage, &watcher)?;
    watcher.say(stream, &build::request_ok());
    publisher.ok(request)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"offered and taken");
    publisher.unidirectional(&subgroup.take());
    watcher
        .await_subgroups(publish.track_alias.0, "the object", |list| {
            list.iter().any(|it| !it.objects.is_empty())
        })
        .map(drop)
}

fn forward_zero(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, Some(Parameter::Forward(false)))?;
    let (_publisher, _) = publisher(stage, Properties::empty())?;
    let (_, publish) = offered(stage, &watcher)?;
    let forward = publish.parameters.forward();
    ensure(forward == Some(false), "FORWARD 0", forward)
}

fn not_own(stage: &Stage<'_>) -> Outcome {
    let (peer, _) = watcher(stage, None)?;
    let stream = peer.request(&build::publish(peer.request_id(), &stage.track("t"), ALIAS));
    nothing_offered(&peer)?;
    peer.ok(stream).map(drop)
}

fn not_asked(stage: &Stage<'_>) -> Outcome {
    let bystander = stage.session()?;
    let other = build::namespace(&[build::unique()]);
    let id = bystander.request_id();
    let stream = bystander.request(&build::subscribe_tracks(id, &other, build::none()));
    bystander.ok(stream)?;
    let (publisher, request) = publisher(stage, Properties::empty())?;
    publisher.ok(request)?;
    nothing_offered(&bystander)
}

fn cancel(stage: &Stage<'_>) -> Outcome {
    let (watcher, stream) = watcher(stage, None)?;
    watcher.reset(stream, 1);
    watcher.stop(stream, 1);
    watcher.answers()?;
    let (publisher, request) = publisher(stage, Properties::empty())?;
    publisher.ok(request)?;
    nothing_offered(&watcher)
}

fn refused(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, None)?;
    let (publisher, request) = publisher(stage, Properties::empty())?;
    let (stream, _) = offered(stage, &watcher)?;
    watcher.say(stream, &build::request_error(RequestCode::UNINTERESTED));
    watcher.finish(stream);
    // Nobody else wants it: whether the relay does is its own choice.
    super::control::refused_or_ok(&publisher, request)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"not wanted");
    publisher.unidirectional(&subgroup.take());
    publisher.answers()?;
    nothing_offered(&watcher)
}

fn overlap(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, None)?;
    let longer = stage.namespace.join(&build::namespace(&["x"])).unwrap_or_default();
    for other in [stage.namespace.clone(), longer] {
        let id = watcher.request_id();
        let stream = watcher.request(&build::subscribe_tracks(id, &other, build::none()));
        watcher.refused(stream, &[RequestCode::PREFIX_OVERLAP.0])?;
    }
    Ok(())
}

fn properties(stage: &Stage<'_>) -> Outcome {
    let properties = Properties::builder().integer(0x3802, 4).build().unwrap_or_default();
    let (watcher, _) = watcher(stage, None)?;
    let (_publisher, _) = publisher(stage, properties.clone())?;
    let (_, publish) = offered(stage, &watcher)?;
    let (sent, told): (Vec<_>, Vec<_>) =
        (properties.iter().collect(), publish.properties.iter().collect());
    ensure(sent == told, format!("{sent:?}"), told)
}

fn done(stage: &Stage<'_>) -> Outcome {
    let (watcher, _) = watcher(stage, None)?;
    let (publisher, request) = publisher(stage, Properties::empty())?;
    let (stream, _) = offered(stage, &watcher)?;
    watcher.say(stream, &build::request_ok());
    publisher.ok(request)?;
    publisher.say(request, &build::publish_done(PublishDoneCode::TRACK_ENDED, Some(0)));
    publisher.finish(request);
    loop {
        match watcher.message(stream).map_err(|it| it.instead_of("PUBLISH_DONE"))? {
            Message::PublishDone(done) => {
                return ensure(done.code == PublishDoneCode::TRACK_ENDED, "TRACK_ENDED", done.code);
            }
            Message::PublishStateNotify(_) => {}
            other => return Err(Failure::new("PUBLISH_DONE", name(&other))),
        }
    }
}

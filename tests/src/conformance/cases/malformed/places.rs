//! Every message on every kind of request, where it has no place (W7): whoever sends it, it closes
//! the session.

use aip_codec::moqt::{message::Message, parameter::Parameter};

use super::{
    VIOLATION,
    control::{MESSAGES, REQUESTS},
};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome},
    peer::{PATIENCE, Peer, name},
    stage::{ALIAS, Stage},
};

/// Who misbehaves, on which stream, and whoever else must stay connected meanwhile.
struct Scene {
    offender: Peer,
    stream: u64,
    _others: Vec<Peer>,
}

/// A request in some state: what it is called, who may send what there, how one comes to it.
struct Place {
    name: &'static str,
    about: &'static str,
    /// Messages that may have a place there.
    good: &'static [&'static str],
    scene: fn(&Stage<'_>) -> Outcome<Scene>,
}

/// What a requester may say of its request.
const REQUESTER: &[&str] = &["request-update"];

const PLACES: &[Place] = &[
    Place {
        name: "subscribing",
        about: "who waits for SUBSCRIBE_OK may update, and no more",
        good: REQUESTER,
        scene: subscribing,
    },
    Place {
        name: "subscribed",
        about: "a subscriber may update, and no more",
        good: REQUESTER,
        scene: subscribed,
    },
    Place {
        name: "publishing",
        about: "who publishes a track may update, tell and end it",
        good: &[
            "request-update",
            "request-ok",
            "request-error",
            "publish-done",
            "publish-state-notify",
        ],
        scene: publishing,
    },
    Place {
        name: "fetching",
        about: "who fetches may update, and no more",
        good: REQUESTER,
        scene: fetching,
    },
    Place {
        name: "announced",
        about: "who publishes a namespace may update, and no more",
        good: REQUESTER,
        scene: announced,
    },
    Place {
        name: "watching-namespaces",
        about: "who watches namespaces may update, and no more",
        good: REQUESTER,
        scene: watching_namespaces,
    },
    Place {
        name: "watching-tracks",
        about: "who watches tracks may update, and no more",
        good: REQUESTER,
        scene: watching_tracks,
    },
    Place {
        name: "subscribed-to",
        about: "who is subscribed to answers first",
        good: &["subscribe-ok", "request-error"],
        scene: subscribed_to,
    },
    Place {
        name: "serving",
        about: "who has accepted a subscription may tell its state and end it",
        good: &["request-ok", "request-error", "publish-done", "publish-state-notify"],
        scene: serving,
    },
    Place {
        name: "fetched-from",
        about: "who is fetched from answers first",
        good: &["fetch-ok", "request-error"],
        scene: fetched_from,
    },
    Place {
        name: "offered",
        about: "who is offered a track answers first",
        good: &["request-ok", "request-error", "request-update"],
        scene: offered,
    },
    Place {
        name: "taking",
        about: "who has taken a track that was offered may update, and no more",
        good: REQUESTER,
        scene: taking,
    },
];

pub(super) fn cases() -> Vec<Case> {
    PLACES
        .iter()
        .map(|place| {
            let name = format!("malformed-messages-{}", place.name);
            case(name, place.about, "9", move |stage| wrong_messages(stage, place)).hostile()
        })
        .collect()
}

fn wrong_messages(stage: &Stage<'_>, place: &Place) -> Outcome {
    let draft = stage.version.number();
    for (index, (message, code, body, since)) in MESSAGES.iter().enumerate() {
        if draft < *since || place.good.contains(message) {
            continue;
        }
        let mut body = build::hex(body);
        if index < REQUESTS || *message == "request-update" {
            // A number that was not used: nothing but the place is wrong.
            body[0] = 0x40 - 2;
        }
        closes(stage, place, message, &build::frame(*code, &body))?;
    }
    closes(stage, place, "setup", &build::frame(0x2f00, &[]))?;
    closes(stage, place, "a type that nobody knows", &build::frame(0x7fff, &[0]))
}

fn closes(stage: &Stage<'_>, place: &Place, message: &str, frame: &[u8]) -> Outcome {
    // Each with names of its own, so that nothing is left of the one before.
    let stage = Stage::new(stage.network, stage.endpoint, stage.version);
    let of = |failure: Failure| {
        Failure::new(failure.expected, format!("{message}: {}", failure.received))
    };
    let scene = (place.scene)(&stage).map_err(of)?;
    scene.offender.send(scene.stream, frame);
    scene.offender.closes_with(&[VIOLATION], PATIENCE).map_err(of)
}

fn subscribing(stage: &Stage<'_>) -> Outcome<Scene> {
    let offender = stage.session()?;
    let waits = build::with(Parameter::RendezvousTimeout(10_000));
    let id = offender.request_id();
    let stream = offender.request(&build::subscribe(id, &stage.track("t"), waits));
    Ok(Scene { offender, stream, _others: Vec::new() })
}

fn subscribed(stage: &Stage<'_>) -> Outcome<Scene> {
    let live = stage.live(build::none())?;
    Ok(Scene { offender: live.subscriber, stream: live.downstream, _others: vec![live.publisher] })
}

fn publishing(stage: &Stage<'_>) -> Outcome<Scene> {
    let offender = stage.session()?;
    let id = offender.request_id();
    let stream = offender.request(&build::publish(id, &stage.track("t"), ALIAS));
    offender.ok(stream)?;
    Ok(Scene { offender, stream, _others: Vec::new() })
}

fn fetching(stage: &Stage<'_>) -> Outcome<Scene> {
    let (publisher, _) = stage.publisher()?;
    let offender = stage.session()?;
    let stream = ask_for_objects(stage, &offender);
    publisher.fetched_from()?;
    Ok(Scene { offender, stream, _others: vec![publisher] })
}

fn ask_for_objects(stage: &Stage<'_>, peer: &Peer) -> u64 {
    let (id, track) = (peer.request_id(), stage.track("t"));
    let (start, end) = (build::at(1, 0), build::at(9, 9));
    peer.request(&build::fetch(peer.version, id, &track, start, end, build::none()))
}

fn announced(stage: &Stage<'_>) -> Outcome<Scene> {
    let (offender, stream) = stage.publisher()?;
    Ok(Scene { offender, stream, _others: Vec::new() })
}

fn watching_namespaces(stage: &Stage<'_>) -> Outcome<Scene> {
    let offender = stage.session()?;
    let id = offender.request_id();
    let stream = offender.request(&build::subscribe_namespace(id, &stage.namespace));
    offender.ok(stream)?;
    Ok(Scene { offender, stream, _others: Vec::new() })
}

fn watching_tracks(stage: &Stage<'_>) -> Outcome<Scene> {
    let offender = stage.session()?;
    let id = offender.request_id();
    let stream = offender.request(&build::subscribe_tracks(id, &stage.namespace, build::none()));
    offender.ok(stream)?;
    Ok(Scene { offender, stream, _others: Vec::new() })
}

fn subscribed_to(stage: &Stage<'_>) -> Outcome<Scene> {
    let (offender, _) = stage.publisher()?;
    let innocent = stage.session()?;
    let id = innocent.request_id();
    innocent.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (stream, _) = offender.subscribed()?;
    Ok(Scene { offender, stream, _others: vec![innocent] })
}

fn serving(stage: &Stage<'_>) -> Outcome<Scene> {
    let live = stage.live(build::none())?;
    Ok(Scene { offender: live.publisher, stream: live.upstream, _others: vec![live.subscriber] })
}

fn fetched_from(stage: &Stage<'_>) -> Outcome<Scene> {
    let (offender, _) = stage.publisher()?;
    let innocent = stage.session()?;
    ask_for_objects(stage, &innocent);
    let (stream, _) = offender.fetched_from()?;
    Ok(Scene { offender, stream, _others: vec![innocent] })
}

/// A session that the relay has sent PUBLISH to, and whose it is.
fn offered(stage: &Stage<'_>) -> Outcome<Scene> {
    let Scene { offender, .. } = watching_tracks(stage)?;
    let publisher = stage.session()?;
    let id = publisher.request_id();
    // A relay may hold its answer until it has that of whoever is offered the track.
    publisher.request(&build::publish(id, &stage.track("t"), ALIAS));
    match offender.incoming()? {
        (stream, Message::Publish(_)) => Ok(Scene { offender, stream, _others: vec![publisher] }),
        (_, other) => Err(Failure::new("PUBLISH", name(&other))),
    }
}

fn taking(stage: &Stage<'_>) -> Outcome<Scene> {
    let scene = offered(stage)?;
    scene.offender.say(scene.stream, &build::request_ok());
    scene.offender.answers()?;
    Ok(scene)
}

//! Names that are nearly others, reserved ones, and the root (A2, O5).

use aip_codec::moqt::{error_code::RequestCode, message::Message, name::TrackNamespace};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Peer, name},
    stage::Stage,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "name-not-joined",
            "(a, b) is neither (ab) nor (a/b) nor (a, bc) (A2)",
            "2.4.2",
            not_joined,
        ),
        case("name-case", "names are compared byte by byte (A2)", "2.4.1", case_matters),
        case("name-dots", "`..` and escapes are bytes like others (A2)", "2.4.1", dots),
        case("name-split", "a track's name is not a namespace's field (A2)", "2.4.1", split),
        case("name-reserved-dot", "what begins with the field `.` is refused", "2.4.3", dot),
        case(
            "name-reserved-dot-requests",
            "no request below the field `.` is taken, whichever it is",
            "2.4.3",
            dot_requests,
        ),
        case(
            "name-session-publish",
            "nothing is published below `.session` (R31)",
            "6.5",
            session_published,
        ),
        case(
            "name-session-subscribe",
            "`.session` is not asked of others (R31)",
            "6.5",
            session_subscribe,
        ),
        case(
            "name-session-fetch",
            "`.session` is not fetched from others (R31)",
            "6.5",
            session_fetch,
        ),
        case(
            "name-session-status",
            "`.session` has no status that nobody defined (R31)",
            "6.5",
            session_status,
        ),
        case(
            "name-session-publish-namespace",
            "`.session` published by a client is not offered to others (R31)",
            "6.5",
            session_publish,
        ),
        case(
            "root-subscribe-namespace",
            "the root may be asked for, and is answered (O5)",
            "4.2",
            root_namespace,
        ),
        case(
            "root-subscribe-tracks",
            "all tracks may be asked for, and that is answered (O5)",
            "3.6",
            root_tracks,
        )
        // It wants every track that another case publishes meanwhile.
        .alone(),
    ]
}

/// A publisher of `namespace`, and whether the relay asks it for a track of `other`.
fn reaches(stage: &Stage<'_>, namespace: &TrackNamespace, other: &TrackNamespace) -> Outcome<bool> {
    let publisher = stage.session()?;
    publisher.announce(namespace)?;
    let peer = stage.session()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &build::track(other, "t"), build::none()));
    match peer.message(stream) {
        Ok(Message::RequestError(error)) if error.code == RequestCode::DOES_NOT_EXIST => Ok(false),
        Ok(answer) => Err(Failure::new("REQUEST_ERROR DOES_NOT_EXIST", name(&answer))),
        Err(failure) => match publisher.subscribed() {
            Ok(_) => Ok(true),
            Err(_) => Err(failure),
        },
    }
}

fn apart(stage: &Stage<'_>, published: &[&str], asked: &[&str]) -> Outcome {
    let first = build::unique();
    let with = |fields: &[&str]| {
        let (head, rest) = fields.split_first().map_or(("", fields), |(head, rest)| (*head, rest));
        let fields: Vec<String> = std::iter::once(format!("{first}{head}"))
            .chain(rest.iter().map(|&field| field.to_owned()))
            .collect();
        build::namespace(&fields)
    };
    let reached = reaches(stage, &with(published), &with(asked))?;
    ensure(!reached, format!("{asked:?} not below {published:?}"), "asked the publisher")
}

fn not_joined(stage: &Stage<'_>) -> Outcome {
    apart(stage, &["a", "b"], &["ab"])?;
    apart(stage, &["a", "b"], &["a/b"])?;
    apart(stage, &["a", "b"], &["a", "bc"])?;
    apart(stage, &["ab"], &["a", "b"])
}

fn case_matters(stage: &Stage<'_>) -> Outcome {
    apart(stage, &["a", "b"], &["a", "B"])
}

fn dots(stage: &Stage<'_>) -> Outcome {
    apart(stage, &["a", "b"], &["a", "x", "..", "b"])?;
    apart(stage, &["a", "b"], &["a", ".62"])
}

fn split(stage: &Stage<'_>) -> Outcome {
    // Published (x, t): the track t of (x) is not below it.
    apart(stage, &["a", "t"], &["a"])
}

fn dot(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let namespace = build::namespace(&[".".to_owned(), build::unique()]);
    let track = build::track(&namespace, "t");
    let refusals = [
        build::subscribe(peer.request_id(), &track, build::none()),
        build::track_status(peer.request_id(), &track),
    ];
    for message in refusals {
        let stream = peer.request(&message);
        peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    }
    Ok(())
}

/// Requests that name `namespace`, but for SUBSCRIBE and TRACK_STATUS.
fn publishing(peer: &Peer, namespace: &TrackNamespace) -> [Message; 2] {
    let track = build::track(namespace, "t");
    let publish = build::publish(peer.request_id(), &track, 7);
    [publish, build::publish_namespace(peer.request_id(), namespace)]
}

fn dot_requests(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let namespace = build::namespace(&[".".to_owned(), build::unique()]);
    let (start, end) = (build::at(0, 0), build::at(1, 1));
    let (id, track) = (peer.request_id(), build::track(&namespace, "t"));
    let fetch = build::fetch(peer.version, id, &track, start, end, build::none());
    let watches = [
        fetch,
        build::subscribe_namespace(peer.request_id(), &namespace),
        build::subscribe_tracks(peer.request_id(), &namespace, build::none()),
    ];
    for message in publishing(&peer, &namespace).into_iter().chain(watches) {
        let stream = peer.request(&message);
        peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    }
    peer.answers()
}

fn session_published(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let namespace = build::namespace(&[".session".to_owned(), build::unique()]);
    for message in publishing(&peer, &namespace) {
        let stream = peer.request(&message);
        peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    }
    peer.answers()
}

/// A track that a session has for itself, as far as anyone knows none.
fn sessions_track() -> aip_codec::moqt::name::FullTrackName {
    build::track(&build::namespace(&[".session".to_owned(), build::unique()]), "t")
}

/// Two sessions, one of which publishes `.session`, so that there is somebody to ask.
fn with_session_publisher(stage: &Stage<'_>) -> Outcome<(Peer, Peer)> {
    let publisher = stage.session()?;
    let namespace = build::namespace(&[".session"]);
    publisher.request(&build::publish_namespace(publisher.request_id(), &namespace));
    publisher.answers()?;
    Ok((publisher, stage.session()?))
}

fn refused_and_not_forwarded(publisher: &Peer, peer: &Peer, message: &Message) -> Outcome {
    let stream = peer.request(message);
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    publisher.answers()?;
    match publisher.incoming_within(std::time::Duration::from_millis(100)) {
        Err(_) => Ok(()),
        Ok((_, message)) => Err(Failure::new("nothing forwarded", name(&message))),
    }
}

fn session_subscribe(stage: &Stage<'_>) -> Outcome {
    let (publisher, peer) = with_session_publisher(stage)?;
    let message = build::subscribe(peer.request_id(), &sessions_track(), build::none());
    refused_and_not_forwarded(&publisher, &peer, &message)
}

fn session_fetch(stage: &Stage<'_>) -> Outcome {
    let (publisher, peer) = with_session_publisher(stage)?;
    let (start, end) = (build::at(0, 0), build::at(1, 1));
    let id = peer.request_id();
    let track = sessions_track();
    let message = build::fetch(peer.version, id, &track, start, end, build::none());
    refused_and_not_forwarded(&publisher, &peer, &message)
}

fn session_status(stage: &Stage<'_>) -> Outcome {
    let (publisher, peer) = with_session_publisher(stage)?;
    let message = build::track_status(peer.request_id(), &sessions_track());
    refused_and_not_forwarded(&publisher, &peer, &message)
}

fn session_publish(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let prefix = build::namespace(&[".session"]);
    let id = watcher.request_id();
    let stream = watcher.request(&build::subscribe_namespace(id, &prefix));
    let accepted = match watcher.message(stream)? {
        Message::RequestError(_) => false,
        Message::RequestOk(_) => true,
        other => return Err(Failure::new("an answer", name(&other))),
    };
    let publisher = stage.session()?;
    let namespace = build::namespace(&[".session".to_owned(), build::unique()]);
    publisher.request(&build::publish_namespace(publisher.request_id(), &namespace));
    publisher.answers()?;
    watcher.answers()?;
    if !accepted {
        return Ok(());
    }
    match watcher.heard_within(stream, std::time::Duration::from_millis(100)) {
        Err(_) => Ok(()),
        Ok(heard) => Err(Failure::new("no NAMESPACE of `.session`", format!("{heard:?}"))),
    }
}

fn answered(peer: &Peer, stream: u64) -> Outcome {
    let refusals = [RequestCode::UNAUTHORIZED, RequestCode::NAMESPACE_TOO_LARGE];
    match peer.message(stream)? {
        Message::RequestOk(_) => peer.answers(),
        Message::RequestError(error) if refusals.contains(&error.code) => peer.answers(),
        other => Err(Failure::new("REQUEST_OK, UNAUTHORIZED or NAMESPACE_TOO_LARGE", name(&other))),
    }
}

fn root_namespace(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let root = TrackNamespace::default();
    let stream = peer.request(&build::subscribe_namespace(peer.request_id(), &root));
    answered(&peer, stream)
}

fn root_tracks(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let (id, root) = (peer.request_id(), TrackNamespace::default());
    let forward = build::with(aip_codec::moqt::parameter::Parameter::Forward(false));
    let stream = peer.request(&build::subscribe_tracks(id, &root, forward));
    answered(&peer, stream)
}

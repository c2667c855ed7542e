//! SUBSCRIBE_NAMESPACE: who learns of which namespaces, and when.

use std::time::Duration;

use aip_codec::moqt::{
    error_code::RequestCode, message::Message, name::TrackNamespace, parameter::Parameter,
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, Peer, name},
    quic::End,
    stage::Stage,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("namespace-known", "a namespace that is there is told at once", "4.2", known),
        case("namespace-later", "a namespace that comes is told", "4.2", later),
        case("namespace-done", "a namespace that goes is told by NAMESPACE_DONE", "4.2", done),
        case(
            "namespace-session-ends",
            "a session's end takes its namespaces with it",
            "4.2",
            session_ends,
        ),
        case("namespace-own", "a session is told of its own namespaces, too", "4.2", own),
        case("namespace-exact", "the suffix of the prefix itself has no fields", "9.16", exact),
        case("namespace-prefix-by-field", "prefixes match whole fields only", "2.4.2", by_field),
        case(
            "namespace-two-publishers",
            "one of two publishers going is not the end",
            "7.3",
            two_publishers,
        ),
        case(
            "namespace-overlap",
            "overlapping prefixes of one session are refused",
            "4.2",
            overlap,
        ),
        case(
            "namespace-overlap-types",
            "SUBSCRIBE_TRACKS and SUBSCRIBE_NAMESPACE are independent",
            "4.2",
            overlap_types,
        ),
        case(
            "namespace-cancel",
            "after cancelling, the same prefix may be asked for again",
            "4.2.1",
            cancel,
        ),
        case("namespace-update", "an update moves the prefix", "9.20", update),
        case("namespace-32-fields", "a namespace of 32 fields is one", "8.7", fields_32),
        case("namespace-4096-bytes", "a namespace of 4,096 bytes is one", "8.7", bytes_4096),
        case("namespace-binary", "fields are bytes, not text", "8.7", binary),
    ]
}

/// Asks for namespaces below `prefix`; it is accepted.
fn watch(peer: &Peer, prefix: &TrackNamespace) -> Outcome<u64> {
    let stream = peer.request(&build::subscribe_namespace(peer.request_id(), prefix));
    peer.ok(stream)?;
    Ok(stream)
}

/// The first field of this case's namespace.
fn prefix(stage: &Stage<'_>) -> TrackNamespace {
    let first: Vec<&[u8]> = stage.namespace.fields().take(1).collect();
    build::namespace(&first)
}

fn told(peer: &Peer, stream: u64, fields: &[&[u8]]) -> Outcome {
    let suffix = build::namespace(fields);
    match peer.message(stream).map_err(|failure| failure.instead_of("NAMESPACE"))? {
        Message::Namespace(namespace) if namespace.suffix == suffix => Ok(()),
        other => Err(Failure::new(format!("NAMESPACE {suffix}"), name(&other))),
    }
}

fn withdrawn(peer: &Peer, stream: u64, fields: &[&[u8]]) -> Outcome {
    let suffix = build::namespace(fields);
    match peer.message(stream).map_err(|failure| failure.instead_of("NAMESPACE_DONE"))? {
        Message::NamespaceDone(namespace) if namespace.suffix == suffix => Ok(()),
        other => Err(Failure::new(format!("NAMESPACE_DONE {suffix}"), name(&other))),
    }
}

/// Nothing is said on `stream` before the relay answers something else.
fn silent(peer: &Peer, stream: u64) -> Outcome {
    peer.answers()?;
    match peer.heard_within(stream, Duration::from_millis(100)) {
        Err(_) => Ok(()),
        Ok(heard) => Err(Failure::new("nothing more", format!("{heard:?}"))),
    }
}

fn known(stage: &Stage<'_>) -> Outcome {
    let (_publisher, _) = stage.publisher()?;
    let watcher = stage.session()?;
    let stream = watch(&watcher, &prefix(stage))?;
    told(&watcher, stream, &[b"live"])
}

fn later(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let stream = watch(&watcher, &prefix(stage))?;
    let (_publisher, _) = stage.publisher()?;
    told(&watcher, stream, &[b"live"])
}

fn done(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let stream = watch(&watcher, &prefix(stage))?;
    let (publisher, request) = stage.publisher()?;
    told(&watcher, stream, &[b"live"])?;
    publisher.reset(request, 1);
    publisher.stop(request, 1);
    withdrawn(&watcher, stream, &[b"live"])
}

fn session_ends(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let stream = watch(&watcher, &prefix(stage))?;
    let (publisher, _) = stage.publisher()?;
    told(&watcher, stream, &[b"live"])?;
    drop(publisher);
    withdrawn(&watcher, stream, &[b"live"])
}

fn own(stage: &Stage<'_>) -> Outcome {
    let (peer, _) = stage.publisher()?;
    let stream = watch(&peer, &prefix(stage))?;
    told(&peer, stream, &[b"live"])
}

fn exact(stage: &Stage<'_>) -> Outcome {
    let (_publisher, _) = stage.publisher()?;
    let watcher = stage.session()?;
    let stream = watch(&watcher, &stage.namespace)?;
    told(&watcher, stream, &[])
}

fn by_field(stage: &Stage<'_>) -> Outcome {
    let first = build::unique();
    let watcher = stage.session()?;
    let stream = watch(&watcher, &build::namespace(&[&first]))?;
    let publisher = stage.session()?;
    // Longer by a letter, shorter by one, in capitals: none of it is below the prefix.
    for other in [format!("{first}x"), first[..first.len() - 1].to_owned(), first.to_uppercase()] {
        publisher.announce(&build::namespace(&[other]))?;
    }
    silent(&watcher, stream)?;
    publisher.announce(&build::namespace(&[first.as_str(), "a", "b"]))?;
    told(&watcher, stream, &[b"a", b"b"])
}

fn two_publishers(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let stream = watch(&watcher, &prefix(stage))?;
    let (first, _) = stage.publisher()?;
    told(&watcher, stream, &[b"live"])?;
    let Some(_second) = stage.further_publisher()? else {
        return silent(&watcher, stream);
    };
    drop(first);
    watcher.answers()?;
    // It may be told again, but not that it is gone.
    while let Ok(heard) = watcher.heard_within(stream, Duration::from_millis(150)) {
        if !matches!(heard, Heard::Message(Message::Namespace(_))) {
            return Err(Failure::new("no NAMESPACE_DONE", format!("{heard:?}")));
        }
    }
    Ok(())
}

fn overlap(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    watch(&watcher, &stage.namespace)?;
    let longer = stage.namespace.join(&build::namespace(&["x"])).unwrap_or_default();
    for other in [prefix(stage), stage.namespace.clone(), longer] {
        let stream = watcher.request(&build::subscribe_namespace(watcher.request_id(), &other));
        watcher.refused(stream, &[RequestCode::PREFIX_OVERLAP.0])?;
    }
    watch(&watcher, &build::namespace(&[build::unique()])).map(drop)
}

fn overlap_types(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    watch(&watcher, &stage.namespace)?;
    let id = watcher.request_id();
    let stream = watcher.request(&build::subscribe_tracks(id, &stage.namespace, build::none()));
    watcher.ok(stream).map(drop)
}

fn cancel(stage: &Stage<'_>) -> Outcome {
    let watcher = stage.session()?;
    let stream = watch(&watcher, &stage.namespace)?;
    watcher.reset(stream, 1);
    watcher.stop(stream, 1);
    // The cancellation and the request travel on different streams: either may come first.
    watcher.until("the same prefix accepted again", |watcher| {
        let id = watcher.request_id();
        let stream = watcher.request(&build::subscribe_namespace(id, &stage.namespace));
        match watcher.message(stream) {
            Ok(Message::RequestOk(_)) => Some(Ok(())),
            Ok(Message::RequestError(error)) if error.code == RequestCode::PREFIX_OVERLAP => None,
            Ok(other) => Some(Err(Failure::new("REQUEST_OK", name(&other)))),
            Err(failure) => Some(Err(failure)),
        }
    })?
}

fn update(stage: &Stage<'_>) -> Outcome {
    let (_publisher, _) = stage.publisher()?;
    let watcher = stage.session()?;
    let stream = watch(&watcher, &build::namespace(&[build::unique()]))?;
    let parameters = build::with(Parameter::TrackNamespacePrefix(prefix(stage)));
    watcher.say(stream, &build::update(watcher.request_id(), parameters));
    // What follows REQUEST_OK is relative to the new prefix: nothing of it may come before.
    match watcher.message(stream)? {
        Message::RequestOk(_) => {}
        other => return Err(Failure::new("REQUEST_OK before any NAMESPACE", name(&other))),
    }
    match watcher.message(stream)? {
        Message::Namespace(it) if it.suffix == build::namespace(&["live"]) => Ok(()),
        other => Err(Failure::new("NAMESPACE of what is published there", name(&other))),
    }
}

fn fields_32(stage: &Stage<'_>) -> Outcome {
    let (peer, watcher) = (stage.session()?, stage.session()?);
    let mut fields = vec![build::unique()];
    fields.resize(32, "x".to_owned());
    let stream = watch(&watcher, &build::namespace(&fields[..1]))?;
    peer.announce(&build::namespace(&fields))?;
    told(&watcher, stream, &[&b"x"[..]; 31])
}

fn bytes_4096(stage: &Stage<'_>) -> Outcome {
    let (peer, watcher) = (stage.session()?, stage.session()?);
    let first = build::unique();
    let rest = vec![b'y'; 4_096 - first.len()];
    let stream = watch(&watcher, &build::namespace(&[&first]))?;
    peer.announce(&build::namespace(&[first.as_bytes(), &rest]))?;
    told(&watcher, stream, &[&rest])
}

fn binary(stage: &Stage<'_>) -> Outcome {
    let (peer, watcher) = (stage.session()?, stage.session()?);
    let first = build::unique();
    let stream = watch(&watcher, &build::namespace(&[&first]))?;
    let strange: [&[u8]; 4] = [&[0], &[0xff, 0xfe], b"..", b"/\"\r\n"];
    for field in strange {
        peer.announce(&build::namespace(&[first.as_bytes(), field]))?;
        told(&watcher, stream, &[field])?;
    }
    Ok(())
}

/// Whether a stream of messages ended by FIN.
pub(super) fn finished(peer: &Peer, stream: u64) -> Outcome {
    match peer.heard(stream)? {
        Heard::End(end) => ensure(end == End::Finished, "FIN", end),
        Heard::Message(message) => Err(Failure::new("FIN", name(&message))),
    }
}

//! Too much of what is allowed (O3, O4, O5), and strange packets at the port.

use std::time::{Duration, Instant};

use aip_codec::moqt::{error_code::PublishDoneCode, message::Message, parameter::Parameter};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, PATIENCE, name},
    quic::Closed,
    stage::{Live, Stage},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "abuse-rapid-reset",
            "thousands of requests reset at once hurt nobody else (O4)",
            "15",
            rapid_reset,
        )
        .hostile()
        .alone(),
        case(
            "abuse-made-to-reset",
            "a relay made to refuse without end hurts nobody else (O4)",
            "15",
            made_to_reset,
        )
        .hostile()
        .alone(),
        case(
            "abuse-subscribe-flood",
            "a flood of waiting subscriptions is bounded (O3)",
            "15",
            subscribe_flood,
        )
        .hostile()
        .alone(),
        case(
            "abuse-announce-flood",
            "a flood of namespaces is answered, each (O3)",
            "15",
            announce_flood,
        )
        .hostile()
        .alone(),
        case(
            "abuse-update-storm",
            "a storm of updates is answered or ends its session (O3)",
            "15",
            update_storm,
        )
        .hostile()
        .alone(),
        case("abuse-data-without-track", "data that nobody asked for is bounded", "15", data_flood)
            .hostile()
            .alone(),
    ]
}

fn rapid_reset(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let peer = stage.session()?;
    let mut closed = false;
    for _ in 0..40 {
        for _ in 0..50 {
            let id = peer.request_id();
            let stream = peer.request(&build::subscribe(id, &stage.track("t"), build::none()));
            peer.reset(stream, 1);
            peer.stop(stream, 1);
        }
        let mut turns = 0;
        let turned = peer.until("time to pass", |_| {
            turns += 1;
            (2 < turns).then_some(())
        });
        if turned.is_err() {
            closed = true;
            break;
        }
    }
    if closed && matches!(peer.closed(), Some(Closed::Transport { .. })) {
        let closed = peer.closed().map(|closed| closed.to_string()).unwrap_or_default();
        return Err(Failure::new("a session that goes on, or is closed by MOQT", closed));
    }
    publisher.answers()
}

fn made_to_reset(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    // Each is refused by the relay, whose answer nobody reads.
    for _ in 0..1_000 {
        let track = build::nobodys_track();
        let stream = peer.request(&build::subscribe(peer.request_id(), &track, build::none()));
        peer.stop(stream, 1);
    }
    // Whether the session is closed for it is the relay's choice.
    drop(peer.answers());
    stage.session()?.answers()
}

fn subscribe_flood(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    for _ in 0..1_200 {
        let parameters = build::with(Parameter::RendezvousTimeout(2_000));
        let track = build::nobodys_track();
        peer.request(&build::subscribe(peer.request_id(), &track, parameters));
    }
    // An innocent session is served while all of those wait.
    let other = stage.session()?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        other.answers()?;
    }
    Ok(())
}

fn announce_flood(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let name = |index: usize| stage.namespace.join(&build::namespace(&[index.to_string()]));
    let mut streams = Vec::new();
    // As many as the relay's streams allow: each stays open.
    for index in 0..usize::try_from(peer.requests_left()).unwrap_or(0).min(500) {
        let namespace = name(index).unwrap_or_default();
        let id = peer.request_id();
        streams.push(peer.request(&build::publish_namespace(id, &namespace)));
    }
    for stream in streams {
        match peer.heard(stream)? {
            Heard::Message(Message::RequestOk(_) | Message::RequestError(_)) => {}
            other => return Err(Failure::new("an answer", format!("{other:?}"))),
        }
    }
    Ok(())
}

fn update_storm(stage: &Stage<'_>) -> Outcome {
    const UPDATES: u16 = 500;
    let live = stage.live(build::none())?;
    for index in 0..UPDATES {
        let priority = u8::try_from(index % 256).unwrap_or(0);
        let parameters = build::with(Parameter::SubscriberPriority(priority));
        let id = live.subscriber.request_id();
        live.subscriber.say(live.downstream, &build::update(id, parameters));
    }
    // One REQUEST_OK for each, or one REQUEST_ERROR for the rest, with which the subscription ends.
    // Only who has said how many may wait may close the session for more.
    let limit = live.subscriber.relays_setup().max_request_updates;
    for _ in 0..UPDATES {
        match live.subscriber.message(live.downstream) {
            Ok(Message::RequestOk(_)) => {}
            Ok(Message::RequestError(_)) => {
                update_failed(&live)?;
                break;
            }
            Ok(other) => return Err(Failure::new("an answer to each update", name(&other))),
            Err(failure) => match live.subscriber.closed() {
                Some(Closed::Session { code: 0x1b, .. }) if limit != 0 => break,
                _ => return Err(failure),
            },
        }
    }
    live.publisher.answers()
}

fn update_failed(live: &Live) -> Outcome {
    match live.subscriber.message(live.downstream)? {
        Message::PublishDone(done) => {
            ensure(done.code == PublishDoneCode::UPDATE_FAILED, "UPDATE_FAILED", done.code)
        }
        other => Err(Failure::new("PUBLISH_DONE", name(&other))),
    }
}

fn data_flood(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    for group in 0..400 {
        let mut subgroup = build::Subgroup::new(4_711, group, 0).object(0, &[7; 5_000]);
        let stream = peer.unidirectional(&subgroup.take());
        peer.finish(stream);
    }
    let mut turns = 0;
    // Whether it is thrown away, stopped or the session closed is the relay's choice.
    drop(peer.until_within("time to pass", PATIENCE, &mut |_| {
        turns += 1;
        (20 < turns).then_some(())
    }));
    Ok(())
}

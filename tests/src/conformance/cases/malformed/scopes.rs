//! Every parameter in every message: where it has a place it is taken, elsewhere it closes the
//! session (W5).

use std::collections::BTreeSet;

use aip_codec::{Version, moqt::message::Message};

use super::{
    VIOLATION,
    requests::{Kind, Parts},
};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome},
    peer::PATIENCE,
    stage::Stage,
};

/// A parameter of some draft, with a value that it can have.
struct Parameter {
    code: u64,
    value: &'static str,
    since: u8,
}

const fn parameter(code: u64, value: &'static str, since: u8) -> Parameter {
    Parameter { code, value, since }
}

/// All but AUTHORIZATION_TOKEN, which has a place in every request, and LOCATION_FILTER, whose value
/// differs from draft to draft.
const PARAMETERS: &[Parameter] = &[
    parameter(0x02, "0a", 18),
    parameter(0x04, "00", 18),
    parameter(0x06, "0a", 18),
    parameter(0x08, "0a", 18),
    parameter(0x09, "0101", 18),
    parameter(0x0a, "0a", 18),
    parameter(0x10, "01", 18),
    parameter(0x20, "03", 18),
    parameter(0x22, "01", 18),
    parameter(0x23, "0100", 20),
    parameter(0x25, "00", 19),
    parameter(0x26, "00", 19),
    parameter(0x27, "00", 19),
    parameter(0x28, "00", 19),
    parameter(0x29, "00", 19),
    parameter(0x32, "00", 18),
    parameter(0x34, "00", 18),
    parameter(0x35, "01", 20),
];

/// What stands in the draft's list of a request.
fn allowed(kind: Kind, draft: u8) -> Vec<u64> {
    let since = |first: u8, list: &[u64]| if first <= draft { list.to_vec() } else { Vec::new() };
    match kind {
        Kind::Subscribe => [
            since(18, &[0x02, 0x04, 0x06, 0x10, 0x20, 0x22, 0x32]),
            since(19, &[0x25, 0x26, 0x27, 0x28]),
            since(20, &[0x23, 0x35]),
        ]
        .concat(),
        Kind::Publish => {
            [since(18, &[0x08, 0x09, 0x10]), since(20, &[0x02, 0x06, 0x20, 0x22])].concat()
        }
        Kind::Fetch => [
            since(18, &[0x0a, 0x20, 0x22]),
            since(19, &[0x25, 0x26, 0x27, 0x28]),
            since(20, &[0x35]),
        ]
        .concat(),
        Kind::TrackStatus => since(20, &[0x35]),
        Kind::PublishNamespace | Kind::SubscribeNamespace => Vec::new(),
        Kind::SubscribeTracks => [
            since(18, &[0x10]),
            since(19, &[0x22, 0x25, 0x26, 0x27, 0x28, 0x29]),
            since(20, &[0x35]),
        ]
        .concat(),
    }
}

/// What a draft's list of a request lacks, though another of its sections has it there.
fn doubtful(kind: Kind) -> &'static [u64] {
    match kind {
        Kind::SubscribeTracks => &[0x02, 0x04, 0x06, 0x20, 0x23, 0x32],
        Kind::Subscribe
        | Kind::Publish
        | Kind::Fetch
        | Kind::TrackStatus
        | Kind::PublishNamespace
        | Kind::SubscribeNamespace => &[],
    }
}

pub(super) fn cases() -> Vec<Case> {
    Kind::ALL.into_iter().flat_map(|kind| [taken(kind), strangers(kind)]).collect()
}

/// The parameter, and the bytes of a good request that has it alone.
fn each(kind: Kind, version: Version) -> impl Iterator<Item = (u64, Vec<u8>)> {
    PARAMETERS.iter().filter(move |it| it.since <= version.number()).map(move |parameter| {
        let mut parts = Parts::new(kind, version, 0);
        let value = build::hex(parameter.value);
        parts.parameters = [vec![1], build::varint(parameter.code), value].concat();
        (parameter.code, parts.frame())
    })
}

fn taken(kind: Kind) -> Case {
    let name = format!("scope-{}", kind.name());
    case(name, "each parameter that a request may have is taken", "9.20", move |stage| {
        let good: BTreeSet<u64> = allowed(kind, stage.version.number()).into_iter().collect();
        for (code, frame) in each(kind, stage.version).filter(|(code, _)| good.contains(code)) {
            let peer = stage.session()?;
            let stream = peer.bidirectional(&frame);
            let expected = format!("an answer to a request with parameter 0x{code:x}");
            match peer.message(stream).map_err(|it| it.instead_of(&expected))? {
                Message::RequestOk(_) | Message::RequestError(_) => {}
                other => {
                    return Err(Failure::new(expected, crate::conformance::peer::name(&other)));
                }
            }
        }
        Ok(())
    })
}

fn strangers(kind: Kind) -> Case {
    let name = format!("malformed-{}-parameters-of-others", kind.name());
    case(name, "no parameter of another message has a place", "9.20", move |stage| {
        let draft = stage.version.number();
        let mut good: BTreeSet<u64> = allowed(kind, draft).into_iter().collect();
        good.extend(doubtful(kind));
        for (code, frame) in each(kind, stage.version).filter(|(code, _)| !good.contains(code)) {
            closes(stage, code, &frame)?;
        }
        Ok(())
    })
    .hostile()
}

fn closes(stage: &Stage<'_>, code: u64, frame: &[u8]) -> Outcome {
    let peer = stage.session()?;
    peer.bidirectional(frame);
    peer.closes_with(&[VIOLATION], PATIENCE).map_err(|failure| {
        let received = format!("parameter 0x{code:x}: {}", failure.received);
        Failure::new(failure.expected, received)
    })
}

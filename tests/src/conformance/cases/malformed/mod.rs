//! Peers that do not keep to the draft: the session is closed with the draft's code, and nobody
//! else notices.

mod control;
mod fetch_streams;
mod objects;
mod parameters;
mod places;
pub(super) mod requests;
mod responses;
mod scopes;
mod streams;

use aip_codec::moqt::error_code::SessionCode;

use crate::conformance::{
    case::{Case, case},
    failure::Outcome,
    peer::{PATIENCE, Peer},
    stage::Stage,
};

pub(super) const VIOLATION: u64 = SessionCode::PROTOCOL_VIOLATION.0;
pub(super) const FORMATTING: u64 = SessionCode::KEY_VALUE_FORMATTING_ERROR.0;

pub(super) fn cases() -> Vec<Case> {
    [
        requests::cases(),
        parameters::cases(),
        scopes::cases(),
        responses::cases(),
        places::cases(),
        control::cases(),
        streams::cases(),
        objects::cases(),
        fetch_streams::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A case whose session does something wrong and is closed with one of `codes`.
fn offence(
    name: String,
    about: String,
    section: &'static str,
    codes: &'static [u64],
    offend: impl Fn(&Stage<'_>, &Peer) -> Outcome + Send + Sync + 'static,
) -> Case {
    case(format!("malformed-{name}"), about, section, move |stage| {
        let peer = stage.session()?;
        offend(stage, &peer)?;
        peer.closes_with(codes, PATIENCE)
    })
    .hostile()
}

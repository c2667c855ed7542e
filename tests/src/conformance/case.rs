//! What a case is.

use std::{borrow::Cow, ops::RangeInclusive};

use aip_codec::Version;

use super::{failure::Outcome, stage::Stage};

/// Over what a case speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// Either: it is about MOQT.
    Any,
    /// QUIC alone.
    Quic,
    /// HTTP/3.
    WebTransport,
}

/// One thing that a relay must do, in every draft that has it.
pub struct Case {
    /// Its name, in small letters, digits and hyphens; no two are equal.
    pub name: Cow<'static, str>,
    /// What the relay must do, in one line.
    pub about: Cow<'static, str>,
    /// Where draft 22 says so.
    pub section: &'static str,
    /// The drafts that have it, by number.
    pub drafts: RangeInclusive<u8>,
    /// Over what it speaks.
    pub over: Over,
    /// Whether the case misbehaves, so that an innocent session is asked afterwards.
    pub hostile: bool,
    /// Whether it waits for one of the relay's own timers, so that it had better begin early.
    pub slow: bool,
    /// Whether it is a load on relay and machine, so that it runs when nothing else does.
    pub alone: bool,
    pub(super) run: Box<dyn Fn(&Stage<'_>) -> Outcome + Send + Sync>,
}

/// A case for all drafts.
pub(super) fn case(
    name: impl Into<Cow<'static, str>>,
    about: impl Into<Cow<'static, str>>,
    section: &'static str,
    run: impl Fn(&Stage<'_>) -> Outcome + Send + Sync + 'static,
) -> Case {
    Case {
        name: name.into(),
        about: about.into(),
        section,
        drafts: 18..=22,
        over: Over::Any,
        hostile: false,
        slow: false,
        alone: false,
        run: Box::new(run),
    }
}

impl Case {
    /// The same, only for these drafts.
    pub(super) fn drafts(self, drafts: RangeInclusive<u8>) -> Self {
        Self { drafts, ..self }
    }

    /// The same, only over this.
    pub(super) fn over(self, over: Over) -> Self {
        Self { over, ..self }
    }

    /// The same, with an innocent session asked afterwards.
    pub(super) fn hostile(self) -> Self {
        Self { hostile: true, ..self }
    }

    /// The same, begun early.
    pub(super) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    /// The same, run when nothing else is.
    pub(super) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Whether the draft has it, and a relay that is reached over WebTransport, or over QUIC alone.
    pub fn is_for(&self, version: Version, webtransport: bool) -> bool {
        let other = if webtransport { Over::Quic } else { Over::WebTransport };
        self.drafts.contains(&version.number()) && self.over != other
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

//! Why a case did not pass.

use std::fmt;

use aip_codec::moqt::error_code::SessionCode;

use super::quic::Closed;

/// What a case's end is.
pub type Outcome<T = ()> = Result<T, Failure>;

/// What was to come, and what came instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What the draft wants.
    pub expected: String,
    /// What the relay did.
    pub received: String,
}

impl Failure {
    pub(super) fn new(expected: impl Into<String>, received: impl Into<String>) -> Self {
        Self { expected: expected.into(), received: received.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected {}, received {}", self.expected, self.received)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self {
            Self::Session { code, reason } => {
                write!(formatter, "session closed with {}", SessionCode(*code))?;
                reason
            }
            Self::Transport { code, reason } => {
                write!(formatter, "connection closed with transport error 0x{code:x}")?;
                reason
            }
            Self::Silent => return formatter.write_str("silence: the connection is dead"),
        };
        if reason.is_empty() { Ok(()) } else { write!(formatter, ": {reason}") }
    }
}

/// Fails unless `holds`.
pub(super) fn ensure(
    holds: bool,
    expected: impl Into<String>,
    received: impl fmt::Debug,
) -> Outcome {
    if holds { Ok(()) } else { Err(Failure::new(expected, format!("{received:?}"))) }
}

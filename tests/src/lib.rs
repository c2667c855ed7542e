//! Shared pieces of the test tiers.

pub mod checker;
#[cfg(feature = "conformance")]
#[expect(
    clippy::disallowed_methods,
    reason = "sockets and the clock are what a relay is tested by"
)]
pub mod conformance;
#[cfg(feature = "io")]
#[expect(clippy::disallowed_methods, reason = "real clocks, real sockets, real threads")]
pub mod faults;
#[cfg(feature = "io")]
#[expect(
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "real clocks, sockets and threads; where they fail, so does the test"
)]
pub mod forwarder;
pub mod fuzz;
pub mod requirements;
pub mod sim;

//! Bytes to values and back: MOQT drafts 18 to 22, and AIP's CALL.
//!
//! Layer 0. No clock, no socket, no session state. Decoders slice the [`bytes::Bytes`] they are
//! given and never allocate by a length that a peer claims; encoders append to the caller's buffer.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aip;
mod assembly;
pub mod cursor;
pub mod error;
pub mod moqt;

pub use error::{DecodeError, EncodeError, Violation};
pub use moqt::version::Version;

//! What the hot paths cost, and what relays cost side by side.
#![warn(missing_docs)]

pub mod baseline;
pub mod callgrind;
pub mod compare;
pub mod control;
pub mod crosscheck;
pub mod hop;
pub mod latency;
pub mod scaling;
pub mod scenario;
pub mod stage;

pub use stage::Stage;

//! Shared pieces of the test tiers.

pub mod checker;
pub mod fuzz;
pub mod requirements;
pub mod sim;

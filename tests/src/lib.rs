//! Shared pieces of the test tiers.

pub mod fuzz;
pub mod sim;

//! Shared pieces of the test tiers.
pub mod fuzz;

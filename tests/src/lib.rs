//! Shared pieces of the test tiers.

pub mod sim;

//! What must hold of whatever a world does; kept apart from what makes it do so.
//!
//! A checker is told what was published and what was delivered, and panics where the second does
//! not follow from the first.

mod calls;
mod fetches;
mod objects;
mod versions;

pub use self::{
    calls::Calls,
    fetches::{Fetched, Fetches},
    objects::{Objects, SubscriptionKey},
    versions::Versions,
};

/// Payload number `object` of group `group` of track `track`: what it says and how long it is
/// follow from the numbers.
pub fn payload(track: u64, group: u64, object: u64, length_max: u64) -> bytes::Bytes {
    let mut random = crate::sim::random::Random::new(track << 40 ^ group << 20 ^ object);
    let mut text = format!("{track}/{group}/{object}:").into_bytes();
    let length = random.index(usize::try_from(length_max).unwrap_or(usize::MAX));
    text.extend((0..=250).cycle().take(length));
    text.into()
}

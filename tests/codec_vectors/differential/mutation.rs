//! Changes to bytes.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
};

/// A change to bytes; places count from the start, and around.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
}

pub(super) fn several() -> impl Strategy<Value = Vec<Mutation>> {
    let byte = prop_oneof![any::<u8>(), 0..4_u8, Just(0x80), Just(0xff)];
    let mutation = (0..17_u8, any::<usize>(), byte).prop_map(|(kind, place, byte)| match kind {
        0..4 => Mutation::Set(place, byte),
        4..8 => Mutation::Flip(place, 1 << (byte % 8)),
        8..12 => Mutation::Insert(place, byte),
        12..16 => Mutation::Remove(place),
        _ => Mutation::Cut(place),
    });
    vec(mutation, 1..4)
}

pub(super) fn apply(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for &mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Set(place, byte) => bytes[place % length] = byte,
            Mutation::Flip(place, bits) => bytes[place % length] ^= bits,
            Mutation::Insert(place, byte) => bytes.insert(place % length, byte),
            Mutation::Remove(place) => {
                bytes.remove(place % length);
            }
            Mutation::Cut(place) => bytes.truncate(place % length),
        }
    }
}

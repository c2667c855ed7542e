//! Against moqtap-codec, written by others from the same drafts: what one writes the other reads as
//! the same, and both refuse the same bytes, but for the differences decided below.

mod control;
mod data;
mod mutation;
mod peer;

use aip_codec::{DecodeError, Version, Violation};
use proptest::{prelude::prop_assert, test_runner::TestCaseError};

use self::peer::Refusal;

/// The drafts compared: the first and the last that we speak.
const VERSIONS: [Version; 2] = [Version::Draft18, Version::Draft22];

/// Differences that are meant.
struct Decided {
    /// What only we refuse, and why.
    we_refuse: &'static [(Violation, &'static str)],
    /// What only the peer refuses: how its refusal begins, and why we do not.
    they_refuse: &'static [(&'static str, &'static str)],
}

const CONTROL: Decided = Decided {
    we_refuse: &[
        (Violation::AipOption, "the option is ours; to the peer it is an unknown one"),
        (Violation::DefaultPublisherPriority, "a value that does not match its definition"),
        (Violation::EndOfTrack, "0 or 1; the draft gives the others no meaning"),
    ],
    they_refuse: &[(
        "InvalidRange",
        "a FETCH that ends before it starts is its session's to answer",
    )],
};

const SUBGROUP: Decided = Decided {
    we_refuse: &[(
        Violation::StatusWithProperties,
        "section 11.1.1; the peer leaves it to its caller",
    )],
    they_refuse: &[
        (
            "InvalidField",
            "the peer holds no object number above 2^62 - 1; in draft 18 no wide type",
        ),
        ("MalformedObjectProperties", "in immutable properties: a malformed track, no violation"),
        ("Kvp(ValueTooLong", "in immutable properties: a malformed track, no violation"),
        ("KeyDeltaOverflow", "in immutable properties: a malformed track, no violation"),
    ],
};

const DATAGRAM: Decided = Decided {
    we_refuse: &[],
    they_refuse: &[
        ("InvalidField", "in draft 18 the peer takes no type wider than needed"),
        ("MalformedObjectProperties", "in immutable properties: a malformed track, no violation"),
        ("Kvp(ValueTooLong", "in immutable properties: a malformed track, no violation"),
        ("KeyDeltaOverflow", "in immutable properties: a malformed track, no violation"),
    ],
};

const FETCH: Decided = Decided {
    we_refuse: &[
        (Violation::FetchNotAscending, "section 11.4.1; the peer leaves it to its caller"),
        (Violation::PropertiesTooLong, "our limit; the draft has none"),
        (Violation::KeyTypeOverflow, "the peer does not look into properties here"),
        (Violation::KeyValueTooLong, "the peer does not look into properties here"),
        (Violation::KeyValueTruncated, "the peer does not look into properties here"),
    ],
    they_refuse: &[],
};

/// Checks that both accept, or both refuse, or that the difference is decided.
fn agree<T: std::fmt::Debug>(
    decided: &Decided,
    ours: Result<T, DecodeError>,
    theirs: Result<(), Refusal>,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let is_decided = match (&ours, &theirs) {
        (Ok(_), Ok(())) | (Err(_), Err(_)) => true,
        (Err(DecodeError::Violation(violation)), Ok(())) => {
            decided.we_refuse.iter().any(|(refused, _)| refused == violation)
        }
        (Err(DecodeError::Incomplete), Ok(())) => false,
        (Ok(_), Err(refusal)) => {
            decided.they_refuse.iter().any(|(start, _)| refusal.0.starts_with(start))
        }
    };
    prop_assert!(is_decided, "ours {ours:?}, theirs {theirs:?}: {bytes:02x?}");
    Ok(())
}

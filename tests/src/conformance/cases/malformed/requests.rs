//! The seven requests, each spoilt in the same ways.

use aip_codec::{Version, moqt::error_code::SessionCode};

use super::{FORMATTING, VIOLATION, offence};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::Outcome,
};

/// A kind of request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::conformance::cases) enum Kind {
    Subscribe,
    Publish,
    Fetch,
    TrackStatus,
    PublishNamespace,
    SubscribeNamespace,
    SubscribeTracks,
}

impl Kind {
    pub(in crate::conformance::cases) const ALL: [Self; 7] = [
        Self::Subscribe,
        Self::Publish,
        Self::Fetch,
        Self::TrackStatus,
        Self::PublishNamespace,
        Self::SubscribeNamespace,
        Self::SubscribeTracks,
    ];

    pub(in crate::conformance::cases) const fn code(self) -> u64 {
        match self {
            Self::Subscribe => 0x03,
            Self::Publish => 0x1d,
            Self::Fetch => 0x16,
            Self::TrackStatus => 0x0d,
            Self::PublishNamespace => 0x06,
            Self::SubscribeNamespace => 0x50,
            Self::SubscribeTracks => 0x51,
        }
    }

    pub(in crate::conformance::cases) const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Fetch => "fetch",
            Self::TrackStatus => "track-status",
            Self::PublishNamespace => "publish-namespace",
            Self::SubscribeNamespace => "subscribe-namespace",
            Self::SubscribeTracks => "subscribe-tracks",
        }
    }

    pub(in crate::conformance::cases) const fn has_name(self) -> bool {
        matches!(self, Self::Subscribe | Self::Publish | Self::Fetch | Self::TrackStatus)
    }

    /// A parameter, with its value, that has no place in it.
    const fn stranger(self) -> &'static str {
        match self {
            // EXPIRES 1, RENDEZVOUS_TIMEOUT 1, FORWARD 1.
            Self::Subscribe | Self::TrackStatus | Self::SubscribeTracks => "0801",
            Self::Publish => "0401",
            Self::Fetch | Self::PublishNamespace | Self::SubscribeNamespace => "1001",
        }
    }

    /// A parameter, with its value, that it may have once; and the first draft where it may.
    const fn single(self) -> Option<(&'static str, &'static str, u8)> {
        match self {
            Self::Subscribe | Self::Publish | Self::SubscribeTracks => Some(("1001", "0001", 18)),
            Self::Fetch => Some(("2001", "0001", 18)),
            Self::TrackStatus => Some(("3501", "0001", 20)),
            Self::PublishNamespace | Self::SubscribeNamespace => None,
        }
    }
}

/// A request's fields, each encoded.
#[derive(Clone, Debug)]
pub(in crate::conformance::cases) struct Parts {
    kind: Kind,
    pub(in crate::conformance::cases) id: Vec<u8>,
    pub(in crate::conformance::cases) namespace: Vec<u8>,
    pub(in crate::conformance::cases) name: Vec<u8>,
    pub(in crate::conformance::cases) parameters: Vec<u8>,
    pub(in crate::conformance::cases) properties: Vec<u8>,
    version: Version,
}

impl Parts {
    /// A good request for what nobody has.
    pub(in crate::conformance::cases) fn new(kind: Kind, version: Version, id: u64) -> Self {
        let mut namespace = bytes::BytesMut::new();
        build::namespace(&[build::unique()]).encode(&mut namespace);
        Self {
            kind,
            id: build::varint(id),
            namespace: namespace.to_vec(),
            name: vec![1, b't'],
            parameters: vec![0],
            properties: Vec::new(),
            version,
        }
    }

    pub(in crate::conformance::cases) fn body(&self) -> Vec<u8> {
        let mut body = self.id.clone();
        let is_old_fetch = self.kind == Kind::Fetch && self.version < Version::Draft20;
        if is_old_fetch {
            body.push(1);
        }
        body.extend(&self.namespace);
        if self.kind.has_name() {
            body.extend(&self.name);
        }
        if is_old_fetch {
            body.extend([0, 0, 9, 9]);
        }
        if self.kind == Kind::Publish {
            body.push(9);
        }
        body.extend(&self.parameters);
        body.extend(&self.properties);
        body
    }

    pub(in crate::conformance::cases) fn frame(&self) -> Vec<u8> {
        build::frame(self.kind.code(), &self.body())
    }
}

/// 2^64 - 1.
const HUGE: &str = "ffffffffffffffffff";

/// A way to spoil any request.
struct Spoiling {
    name: &'static str,
    about: &'static str,
    section: &'static str,
    codes: &'static [u64],
    spoil: fn(&mut Parts),
}

const fn spoiling(
    name: &'static str,
    about: &'static str,
    section: &'static str,
    codes: &'static [u64],
    spoil: fn(&mut Parts),
) -> Spoiling {
    Spoiling { name, about, section, codes, spoil }
}

const SPOILINGS: &[Spoiling] = &[
    spoiling(
        "namespace-33-fields",
        "a namespace has at most 32 fields",
        "8.7",
        &[VIOLATION],
        |parts| parts.namespace = [vec![33], [1, b'x'].repeat(33)].concat(),
    ),
    spoiling(
        "namespace-fields-huge",
        "a number of fields is not believed",
        "8.7",
        &[VIOLATION],
        |parts| parts.namespace = build::hex(HUGE),
    ),
    spoiling(
        "namespace-field-empty",
        "a namespace field has bytes",
        "8.7",
        &[VIOLATION],
        |parts| parts.namespace = vec![2, 1, b'x', 0],
    ),
    spoiling(
        "namespace-field-huge",
        "a field's length is not believed",
        "8.7",
        &[VIOLATION],
        |parts| parts.namespace = build::hex(&format!("01{HUGE}")),
    ),
    spoiling(
        "namespace-4097-bytes",
        "a namespace has at most 4,096 bytes",
        "8.7",
        &[VIOLATION],
        |parts| parts.namespace = [&[1][..], &build::varint(4_097), &[b'x'; 4_097]].concat(),
    ),
    spoiling(
        "parameters-huge",
        "a number of parameters is not believed",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = build::hex(HUGE),
    ),
    spoiling(
        "parameters-missing",
        "as many parameters as announced are there",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = vec![1],
    ),
    spoiling(
        "parameter-unknown",
        "an unknown parameter cannot be skipped",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = build::hex("017e01"),
    ),
    spoiling(
        "parameter-grease",
        "there is no grease among parameters",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = build::hex("01809d01"),
    ),
    spoiling(
        "parameter-type-overflow",
        "a parameter's type has 64 bits",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = build::hex(&format!("02 03 03 0301 61 {HUGE} 01")),
    ),
    spoiling(
        "parameter-out-of-scope",
        "a parameter of another message has no place",
        "5",
        &[VIOLATION],
        |parts| parts.parameters = [vec![1], build::hex(parts.kind.stranger())].concat(),
    ),
    spoiling("token-huge", "a token's length is not believed", "8.9", &[VIOLATION], |parts| {
        parts.parameters = build::hex(&format!("0103{HUGE}61"))
    }),
    spoiling("token-empty", "a token is not empty", "8.9", &[FORMATTING], |parts| {
        parts.parameters = build::hex("010300")
    }),
    spoiling("token-type", "a token's alias type is known", "8.9", &[FORMATTING], |parts| {
        parts.parameters = build::hex("0103020961")
    }),
    spoiling("token-cut-short", "a token's fields lie inside it", "8.9", &[FORMATTING], |parts| {
        parts.parameters = build::hex("01030201ff")
    }),
    spoiling(
        "id-parity",
        "a client's request ids are even",
        "6.4.2.1",
        &[SessionCode::INVALID_REQUEST_ID.0],
        |parts| parts.id = vec![1],
    ),
];

/// More ways, for requests that name a track.
const SPOILT_NAMES: &[Spoiling] = &[
    spoiling(
        "name-4097-bytes",
        "a full track name has at most 4,096 bytes",
        "2.4.1",
        &[VIOLATION],
        |parts| parts.name = [build::varint(4_090), vec![b'n'; 4_090]].concat(),
    ),
    spoiling("name-huge", "a name's length is not believed", "2.4.1", &[VIOLATION], |parts| {
        parts.name = build::hex(HUGE)
    }),
];

pub(super) fn cases() -> Vec<Case> {
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

fn of_kind(kind: Kind) -> Vec<Case> {
    let names: &[Spoiling] = if kind.has_name() { SPOILT_NAMES } else { &[] };
    let mut cases: Vec<Case> =
        SPOILINGS.iter().chain(names).map(|spoiling| spoilt(kind, spoiling)).collect();
    cases.extend(framing(kind));
    cases.extend(kind.single().map(|(first, second, since)| {
        let name = format!("{}-parameter-twice", kind.name());
        let about = "a parameter that must not repeat does not".to_owned();
        offence(name, about, "5", &[VIOLATION], move |_, peer| {
            let mut parts = Parts::new(kind, peer.version, 0);
            parts.parameters = [vec![2], build::hex(first), build::hex(second)].concat();
            peer.bidirectional(&parts.frame());
            Ok(())
        })
        .drafts(since..=22)
    }));
    cases.push(repeated_id(kind));
    cases.push(fin_inside(kind));
    cases
}

fn spoilt(kind: Kind, spoiling: &'static Spoiling) -> Case {
    let Spoiling { name, about, section, codes, spoil } = spoiling;
    let name = format!("{}-{name}", kind.name());
    offence(name, (*about).to_owned(), section, codes, move |_, peer| {
        let mut parts = Parts::new(kind, peer.version, 0);
        spoil(&mut parts);
        peer.bidirectional(&parts.frame());
        Ok(())
    })
}

/// The length before a body that is good.
fn framing(kind: Kind) -> Vec<Case> {
    let spoilt = |name: &str, about: &str, codes, frame: fn(u64, &[u8]) -> Vec<u8>| {
        let name = format!("{}-{name}", kind.name());
        offence(name, about.to_owned(), "9", codes, move |_, peer| {
            let body = Parts::new(kind, peer.version, 0).body();
            peer.bidirectional(&frame(kind.code(), &body));
            Ok(())
        })
    };
    vec![
        spoilt(
            "length-short",
            "a message's fields end with its length",
            &[VIOLATION],
            |code, body| {
                let length = u16::try_from(body.len() - 1).unwrap_or(0);
                build::framed_as(code, length, body)
            },
        ),
        spoilt("length-zero", "a message is not empty", &[VIOLATION], |code, body| {
            build::framed_as(code, 0, body)
        }),
        // Behind PUBLISH stand its properties, of which the byte is a beginning.
        spoilt(
            "trailing-byte",
            "nothing stands behind a message's fields",
            &[VIOLATION, FORMATTING],
            |code, body| build::frame(code, &[body, &[0]].concat()),
        ),
        spoilt("id-cut-short", "an integer lies inside its message", &[VIOLATION], |code, _| {
            build::frame(code, &[0xff])
        }),
    ]
}

fn repeated_id(kind: Kind) -> Case {
    const CODES: &[u64] = &[SessionCode::INVALID_REQUEST_ID.0];
    let name = format!("{}-id-repeated", kind.name());
    let about = "no two requests have one id".to_owned();
    offence(name, about, "6.4.2.1", CODES, move |_, peer| {
        for _ in 0..2 {
            peer.bidirectional(&Parts::new(kind, peer.version, 0).frame());
        }
        Ok(())
    })
}

fn fin_inside(kind: Kind) -> Case {
    let name = format!("malformed-{}-fin-inside", kind.name());
    let about = "a request cut short by FIN fails alone";
    case(name, about, "6.4.2.2", move |stage| -> Outcome {
        let peer = stage.session()?;
        let frame = Parts::new(kind, peer.version, 0).frame();
        for length in [1, 2, 3, frame.len() / 2, frame.len() - 1] {
            let stream = peer.bidirectional(&frame[..length]);
            peer.finish(stream);
        }
        peer.answers()
    })
    .hostile()
}

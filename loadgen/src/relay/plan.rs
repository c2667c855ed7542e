//! What a fan-out run does.

use std::time::Duration;

use serde::Serialize;

use crate::{duration, schedule::Arrivals};

/// How objects travel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// On subgroup streams, one for each group.
    #[default]
    Stream,
    /// As datagrams, which may be lost.
    Datagram,
}

/// A ready shape: what media and agents send.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Shape {
    /// 120 bytes, 50 a second, in groups of a second: speech.
    Audio,
    /// 1,200 bytes, 30 a second, in groups of a second: one packet each.
    Packet,
    /// 4 KiB, 60 a second, in groups of a second: video.
    Video,
    /// 16 KiB, 30 a second, in groups of a second.
    Medium,
    /// 1 MiB, 1 a second, each a group: documents.
    Large,
}

impl Shape {
    /// Bytes of an object, objects a second, objects of a group.
    pub const fn figures(self) -> (usize, u32, u64) {
        match self {
            Self::Audio => (120, 50, 50),
            Self::Packet => (1_200, 30, 30),
            Self::Video => (4_096, 60, 60),
            Self::Medium => (16_384, 30, 30),
            Self::Large => (1 << 20, 1, 1),
        }
    }
}

/// What subscribers do while objects flow, so many times a second altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Churn {
    /// Unsubscribe and subscribe again, a second.
    pub subscribe: f64,
    /// Close the connection and open another, a second.
    pub reconnect: f64,
}

/// A fan-out run. Everything here is part of its fingerprint.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Bytes of a payload.
    pub size: usize,
    /// When objects are due.
    #[serde(serialize_with = "shown")]
    pub arrivals: Arrivals,
    /// Objects of a group.
    pub group_length: u64,
    /// How they travel.
    pub delivery: Delivery,
    /// Subscribers, each with a connection of its own.
    pub subscribers: usize,
    /// Connections begun a second.
    pub connect_rate: f64,
    /// What subscribers do besides.
    pub churn: Churn,
    /// Drafts offered, first choice first; empty is all.
    pub drafts: Vec<u8>,
    /// Load before anything counts.
    #[serde(with = "duration::text")]
    pub warm_up: Duration,
    /// The time that figures are made of.
    #[serde(with = "duration::text")]
    pub measured: Duration,
    /// Load after that.
    #[serde(with = "duration::text")]
    pub cool_down: Duration,
    /// How long what is under way is waited for in the end.
    #[serde(with = "duration::text")]
    pub drain: Duration,
    /// How long everybody may take to connect and subscribe.
    #[serde(with = "duration::text")]
    pub setup: Duration,
    /// A delivery that takes longer is late.
    pub late_nanoseconds: Option<u64>,
}

fn shown<S: serde::Serializer>(arrivals: &Arrivals, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(arrivals)
}

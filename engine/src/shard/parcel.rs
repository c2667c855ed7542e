//! What goes from one shard of a relay to another.

use aip_codec::{
    aip::hops::Hops,
    moqt::{
        id::RequestId,
        location::Location,
        name::{FullTrackName, TrackNamespace},
    },
};
use bytes::Bytes;

use crate::transport::StreamId;

/// One message from one shard to another. Bytes are references: whoever gets it shares them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parcel {
    /// Which of the links that these two shards have had it belongs to; they count from 0.
    pub epoch: u32,
    /// What it says.
    pub content: Content,
}

/// What a [`Parcel`] says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// More bytes of a stream.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Bytes,
        /// Whether nothing follows.
        fin: bool,
    },
    /// The sender ends its side of a stream; what did not come does not come.
    Reset {
        /// The stream.
        stream: StreamId,
        /// An application error code.
        code: u64,
    },
    /// The sender reads no more of a stream.
    Stop {
        /// The stream.
        stream: StreamId,
        /// An application error code.
        code: u64,
    },
    /// The sender takes no more of a stream for now.
    Pause {
        /// The stream.
        stream: StreamId,
    },
    /// The sender takes more of a stream again.
    Resume {
        /// The stream.
        stream: StreamId,
    },
    /// A datagram.
    Datagram {
        /// Its bytes.
        bytes: Bytes,
    },
    /// What the sender has from its own sessions.
    Notice(Box<Notice>),
    /// The link is closed; another one begins.
    Close,
}

impl Content {
    /// Bytes that are kept as long as it is.
    pub const fn size(&self) -> usize {
        match self {
            Self::Stream { bytes, .. } | Self::Datagram { bytes } => bytes.len(),
            _ => 0,
        }
    }
}

/// What a shard knows by itself, and another is to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Sessions of the shard's own want every track under a prefix, or none does any more.
    Interest {
        /// The prefix.
        prefix: TrackNamespace,
        /// The relays that each wish has passed; none wants it if there is none.
        wishes: Vec<Hops>,
    },
    /// The best way to a namespace by a session of the shard's own.
    Namespace {
        /// The namespace.
        namespace: TrackNamespace,
        /// The way; none if nobody publishes it there any more.
        way: Option<Way>,
    },
    /// A SUBSCRIBE that waits: the shard asks its own publishers, and what these send from now on
    /// comes.
    Waits {
        /// The SUBSCRIBE.
        request: RequestId,
    },
    /// What a subscription brings goes on; but a publisher of the shard's own is lost, or one has
    /// come that is ahead of the others, so that something may be missing.
    Gap {
        /// The subscription.
        request: RequestId,
        /// The first location that may be missing.
        from: Location,
        /// The largest location that the shard has heard of.
        largest: Option<Location>,
    },
    /// How many requests of the shard's own sessions wait for a publisher to come.
    Rendezvous {
        /// How many.
        waiting: usize,
    },
    /// How many sessions of the shard's own have published a track (PUBLISH).
    Track {
        /// The track.
        track: FullTrackName,
        /// How many publish it there.
        publishers: usize,
        /// Whether another relay that has a session there would send it.
        offered: bool,
    },
    /// What the publishers of a track send contradicts itself.
    Malformed {
        /// The track.
        track: FullTrackName,
    },
}

/// A way to who publishes a namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Way {
    /// The relays on it, the furthest first.
    pub hops: Hops,
    /// What it costs.
    pub cost: u64,
}

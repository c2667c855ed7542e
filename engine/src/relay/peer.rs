//! One session of the relay, and what the relay remembers of it.

use std::{collections::BTreeMap, time::Instant};

use aip_codec::{
    aip::hops::RelayId,
    moqt::{
        id::{RequestId, TrackAlias},
        name::TrackNamespace,
    },
};

use super::{
    forwarder::IncomingSubgroup,
    interest::{AskedTracks, RefusedTracks},
    namespace_announce::Announcement,
    namespace_tree::RequestKey,
    overload::Bucket,
    track::TrackIndex,
};
use crate::{
    account::Account,
    session::Session,
    stream_map::NumberMap,
    transport::{Peer as TransportPeer, SessionId, Side, StreamId},
};

/// A session's place in the relay's table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct PeerIndex(pub(crate) usize);

/// What a request in a session is to the relay.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// We receive a track: our SUBSCRIBE, or the peer's PUBLISH.
    Upstream(TrackIndex),
    /// The peer receives a track: its SUBSCRIBE, or our PUBLISH.
    Subscriber { track: TrackIndex, subscriber: usize },
    /// The peer's SUBSCRIBE, FETCH or TRACK_STATUS waits for its track's publisher.
    Waiting(TrackIndex),
    /// The peer's FETCH or TRACK_STATUS, passed on to a publisher that takes no SUBSCRIBE.
    PassedOn(TrackIndex),
    /// Our TRACK_STATUS, for such a one.
    StatusAbove(TrackIndex),
    /// The peer's FETCH, being answered.
    Fetch { track: TrackIndex, task: u64 },
    /// Our FETCH.
    UpstreamFetch { track: TrackIndex, fetch: u64 },
    /// The peer publishes a namespace.
    Namespace(TrackNamespace),
    /// We publish a namespace to another relay.
    NamespaceUpstream(TrackNamespace),
    /// The peer watches namespaces.
    NamespaceWatch(TrackNamespace),
    /// The peer wants every track under a prefix.
    TracksWatch(TrackNamespace),
    /// We watch another relay's namespaces; those it has told.
    UpstreamWatch,
    /// We want every track under a prefix that another relay has.
    TracksAbove(TrackNamespace),
    /// A call, and where it goes on or came from.
    Call { other: RequestKey },
}

/// One session.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) transport: TransportPeer,
    pub(crate) requests: NumberMap<RequestId, Owner>,
    /// Streams of tracks that we receive.
    pub(crate) incoming: NumberMap<StreamId, IncomingSubgroup>,
    /// Tracks that we receive, by the peer's alias.
    pub(crate) aliases: BTreeMap<TrackAlias, TrackIndex>,
    /// What this relay was told of namespaces.
    pub(crate) announced: BTreeMap<TrackNamespace, Announcement>,
    /// Prefixes under which another relay was asked for every track.
    pub(crate) asked_tracks: BTreeMap<TrackNamespace, AskedTracks>,
    /// What it has refused of that.
    pub(crate) refused_tracks: RefusedTracks,
    /// Namespaces that the peer publishes.
    pub(crate) namespace_count: usize,
    /// SUBSCRIBE_NAMESPACE and SUBSCRIBE_TRACKS of the peer.
    pub(crate) watch_count: usize,
    /// Requests of the peer that wait for a publisher.
    pub(crate) waiting_count: usize,
    /// The place of its address among the identities.
    pub(crate) identity: usize,
    /// What the levels above hold of its queues.
    pub(crate) accounted: Account,
    /// How many requests it made lately.
    pub(crate) bucket: Bucket,
    /// PUBLISHes of ours to the peer.
    pub(crate) publication_count: usize,
    /// Whether nothing has come from it for longer than answers take.
    pub(crate) is_silent: bool,
    /// Whether it stands in the relay's list of sessions with something to do.
    pub(crate) touched: bool,
    /// When its `poll_timeout` stands in the relay's timers.
    pub(crate) timer: Option<Instant>,
    /// Whether it may want to be looked at before that.
    pub(crate) timer_is_stale: bool,
}

impl Peer {
    pub(crate) fn new(
        id: SessionId,
        session: Session,
        transport: TransportPeer,
        now: Instant,
    ) -> Self {
        Self {
            id,
            session,
            transport,
            requests: NumberMap::default(),
            incoming: NumberMap::default(),
            aliases: BTreeMap::new(),
            announced: BTreeMap::new(),
            asked_tracks: BTreeMap::new(),
            refused_tracks: RefusedTracks::default(),
            namespace_count: 0,
            watch_count: 0,
            waiting_count: 0,
            identity: usize::MAX,
            accounted: Account::ZERO,
            bucket: Bucket::new(now),
            publication_count: 0,
            is_silent: false,
            touched: false,
            timer: None,
            timer_is_stale: true,
        }
    }

    /// Whether nothing is left in this session that a drain waits for. What we and a relay that we
    /// have dialled tell each other of namespaces would go on for ever.
    pub(crate) fn is_drained(&self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "a count does not depend on the order")]
        let owners = self.requests.values();
        let is_word = |owner: &&Owner| {
            matches!(
                owner,
                Owner::NamespaceUpstream(_) | Owner::UpstreamWatch | Owner::TracksAbove(_)
            )
        };
        let words = if self.is_upstream_relay() { owners.filter(is_word).count() } else { 0 };
        self.session.open_requests() <= words
    }

    /// Whether it is looked at by then.
    pub(crate) fn is_looked_at_by(&self, wanted: Instant) -> bool {
        self.timer.is_some_and(|timer| timer <= wanted)
    }

    /// Whether a request's number is one of ours.
    pub(crate) const fn is_ours(&self, request: RequestId) -> bool {
        request.0.is_multiple_of(2) == matches!(self.session.side(), Side::Client)
    }

    /// Whether this is another shard of this relay.
    pub(crate) const fn is_shard(&self) -> bool {
        self.transport.shard.is_some()
    }

    /// Whether this is the shard that dials other relays.
    pub(crate) fn is_dialling_shard(&self) -> bool {
        self.transport.shard.is_some_and(|shard| shard.dials)
    }

    /// Its number, if it is another relay that has told one.
    pub(crate) const fn relay_id(&self) -> Option<RelayId> {
        if self.is_shard() { None } else { self.session.peer_relay() }
    }

    /// Whether this is another relay: one that we have dialled, or that has told its number.
    pub(crate) const fn is_relay(&self) -> bool {
        self.is_upstream_relay() || self.relay_id().is_some()
    }

    /// Whether this is another relay that we have dialled.
    pub(crate) const fn is_upstream_relay(&self) -> bool {
        self.transport.target.is_some()
    }
}

//! Requests of one session: their numbers, streams, kinds and states.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use aip_codec::{
    Version,
    moqt::{
        id::{RequestId, TrackAlias},
        location::Location,
        message::{FrameDecoder, MessageType, PublishDone},
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameters},
    },
};

use super::error::Misbehavior;
use crate::{
    account::Account,
    stream_map::{DenseMap, Handle, NumberMap},
    transport::{Side, StreamId},
};

/// One request, of either side, from its first message to its end.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) stream: StreamId,
    /// When we made it, or first heard of it.
    pub(crate) began: Instant,
    pub(crate) state: State,
    pub(crate) kind: Kind,
    pub(crate) decoder: FrameDecoder,
    /// Whether the peer may still send on the stream.
    pub(crate) receive_open: bool,
    /// Whether we may still send on the stream.
    pub(crate) send_open: bool,
    pub(crate) goaway_received: bool,
    /// Whether we hold back what the peer sends.
    pub(crate) paused: bool,
    /// Updates of ours that the peer has not answered, oldest first.
    pub(crate) updates_sent: VecDeque<RequestId>,
    /// Updates of the peer that we have not answered, oldest first.
    pub(crate) updates_received: VecDeque<RequestId>,
    /// Those of them that came before we answered the request: told once it is accepted.
    pub(crate) updates_held: Vec<(RequestId, Parameters)>,
}

/// Whether a request has its first answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Made, not answered.
    Pending,
    /// Accepted.
    Established,
}

/// What kind of request, which role we have in it, and what that role must remember.
#[derive(Debug)]
pub(crate) enum Kind {
    Subscription(Subscription),
    Publication(Publication),
    FetchSent(FetchSent),
    FetchReceived(FetchReceived),
    TrackStatusSent,
    TrackStatusReceived,
    NamespaceSent,
    NamespaceReceived,
    NamespaceWatchSent { known: BTreeSet<TrackNamespace> },
    NamespaceWatchReceived { prefix: TrackNamespace },
    TracksSent,
    TracksReceived { prefix: TrackNamespace },
    CallSent,
    CallReceived,
}

/// We receive a track: by our SUBSCRIBE or the peer's PUBLISH.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Whether the peer offered it (PUBLISH) and we answer.
    pub(crate) by_publish: bool,
    pub(crate) track: FullTrackName,
    pub(crate) alias: Option<TrackAlias>,
    /// The order of groups that the request asks for: that of a fill which names none.
    pub(crate) order: GroupOrder,
    /// The order in which a fill asked for by the request itself comes.
    pub(crate) fill_order: GroupOrder,
    /// Data streams that have begun, fills included.
    pub(crate) streams_seen: u64,
    /// Data streams that have not ended.
    pub(crate) streams_open: u64,
    /// PUBLISH_DONE, held back until its streams have come and ended, or until a time.
    pub(crate) done: Option<HeldDone>,
}

/// The order in which the fill that these parameters ask for comes, in a subscription of `order`.
pub(crate) fn fill_order(parameters: &Parameters, order: GroupOrder) -> GroupOrder {
    parameters.fill_parameters().and_then(Parameters::group_order).unwrap_or(order)
}

/// PUBLISH_DONE while streams that it counts are missing or open.
#[derive(Debug)]
pub(crate) struct HeldDone {
    pub(crate) body: PublishDone,
    /// When it is told at the latest.
    pub(crate) deadline: Instant,
    /// Whether the deadline was put off, since a stream was still open.
    pub(crate) put_off: bool,
}

impl Subscription {
    pub(crate) fn new(track: FullTrackName, by_publish: bool, parameters: &Parameters) -> Self {
        let order = parameters.group_order().unwrap_or_default();
        Self {
            by_publish,
            track,
            alias: None,
            order,
            fill_order: fill_order(parameters, order),
            streams_seen: 0,
            streams_open: 0,
            done: None,
        }
    }

    /// Whether every stream that PUBLISH_DONE counts has come and ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.streams_open == 0
            && self.done.as_ref().is_some_and(|done| {
                done.body.stream_count.is_some_and(|count| count <= self.streams_seen)
            })
    }
}

/// We send a track: by the peer's SUBSCRIBE or our PUBLISH.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Whether we offered it (PUBLISH) and the peer answers.
    pub(crate) by_publish: bool,
    pub(crate) track: FullTrackName,
    /// Data streams that are not yet all sent, fills included.
    pub(crate) streams: BTreeSet<StreamId>,
    /// Data streams ever opened, fills included.
    pub(crate) stream_count: u64,
    /// What waits in those streams.
    pub(crate) account: Account,
    /// When bytes last left for the network while others waited, or when waiting began. `None`
    /// while nothing waits.
    pub(crate) waits_since: Option<Instant>,
    /// Streams given up, with what waited on them, since bytes last left.
    pub(crate) given_up: u32,
    /// Whether its objects or subgroups can come too late.
    pub(crate) timed: bool,
    /// PUBLISH_DONE that waits for the streams to be sent.
    pub(crate) done: Option<PublishDone>,
}

/// We fetch.
#[derive(Debug)]
pub(crate) struct FetchSent {
    pub(crate) order: GroupOrder,
    /// First location asked for, where the request itself says it.
    pub(crate) start: Option<Location>,
    pub(crate) data: Option<StreamId>,
    pub(crate) data_ended: bool,
}

/// The peer fetches.
#[derive(Debug, Default)]
pub(crate) struct FetchReceived {
    pub(crate) data: Option<StreamId>,
    pub(crate) data_sent: bool,
}

impl Publication {
    pub(crate) const fn new(track: FullTrackName, by_publish: bool) -> Self {
        Self {
            by_publish,
            track,
            streams: BTreeSet::new(),
            stream_count: 0,
            account: Account::ZERO,
            waits_since: None,
            given_up: 0,
            timed: false,
            done: None,
        }
    }
}

/// What a message from the peer means on a request's stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// The first answer to our request.
    Response,
    /// The answer to our oldest update.
    UpdateResponse,
    /// A change that the peer asks for.
    Update,
    StateNotify,
    PublishDone,
    Namespace,
    NamespaceDone,
    PublishSkipped,
    Goaway,
}

impl Kind {
    /// Whether we made the request.
    pub(crate) const fn is_ours(&self) -> bool {
        match self {
            Self::Subscription(subscription) => !subscription.by_publish,
            Self::Publication(publication) => publication.by_publish,
            Self::FetchSent(_)
            | Self::TrackStatusSent
            | Self::NamespaceSent
            | Self::NamespaceWatchSent { .. }
            | Self::TracksSent
            | Self::CallSent => true,
            Self::FetchReceived(_)
            | Self::TrackStatusReceived
            | Self::NamespaceReceived
            | Self::NamespaceWatchReceived { .. }
            | Self::TracksReceived { .. }
            | Self::CallReceived => false,
        }
    }

    /// Whether a request's OK may carry track properties.
    pub(crate) const fn ok_has_properties(&self) -> bool {
        matches!(self, Self::TrackStatusSent)
    }

    /// Whether the request is about a namespace, so that a redirect of it names no track.
    pub(crate) const fn is_namespace_scoped(&self, version: Version) -> bool {
        match self {
            Self::NamespaceSent | Self::NamespaceWatchSent { .. } => true,
            Self::TracksSent => version.number() >= 20,
            _ => false,
        }
    }

    /// Whether what the peer says last ends the request: an answer, or PUBLISH_DONE.
    pub(crate) const fn peer_has_last_word(&self) -> bool {
        self.is_ours() || matches!(self, Self::Subscription(_))
    }

    /// Whether the peer may send REQUEST_UPDATE: as who made the request, or as the subscriber of a
    /// track that we publish.
    const fn takes_update(&self) -> bool {
        matches!(
            self,
            Self::Publication(_)
                | Self::Subscription(Subscription { by_publish: true, done: None, .. })
                | Self::FetchReceived(_)
                | Self::NamespaceReceived
                | Self::NamespaceWatchReceived { .. }
                | Self::TracksReceived { .. }
        )
    }
}

impl Request {
    /// Whether whoever made it still waits: for an answer, or for a call's last record.
    pub(crate) const fn is_unanswered(&self) -> bool {
        match self.kind {
            Kind::CallSent | Kind::CallReceived => self.send_open,
            _ => matches!(self.state, State::Pending),
        }
    }

    pub(crate) fn new(stream: StreamId, kind: Kind, decoder: FrameDecoder, began: Instant) -> Self {
        Self {
            stream,
            began,
            state: State::Pending,
            kind,
            decoder,
            receive_open: true,
            send_open: true,
            goaway_received: false,
            paused: false,
            updates_sent: VecDeque::new(),
            updates_received: VecDeque::new(),
            updates_held: Vec::new(),
        }
    }

    /// What `message` means here, now; an error if it has no place.
    pub(crate) fn meaning(
        &self,
        message: MessageType,
        version: Version,
    ) -> Result<Meaning, Misbehavior> {
        let waits = self.state == State::Pending && self.kind.is_ours();
        let meaning = match message {
            MessageType::Goaway => Some(Meaning::Goaway),
            MessageType::RequestError if waits => Some(Meaning::Response),
            MessageType::SubscribeOk if waits && self.is_subscribe() => Some(Meaning::Response),
            MessageType::FetchOk if waits && matches!(self.kind, Kind::FetchSent(_)) => {
                Some(Meaning::Response)
            }
            MessageType::RequestOk if waits && self.is_answered_by_ok() => Some(Meaning::Response),
            MessageType::RequestOk | MessageType::RequestError
                if !waits && !self.updates_sent.is_empty() =>
            {
                Some(Meaning::UpdateResponse)
            }
            MessageType::RequestUpdate if !waits && self.kind.takes_update() => {
                Some(Meaning::Update)
            }
            other if !waits => self.meaning_once_established(other, version),
            _ => None,
        };
        meaning.ok_or(Misbehavior::UnexpectedMessage)
    }

    fn meaning_once_established(&self, message: MessageType, version: Version) -> Option<Meaning> {
        match (&self.kind, message) {
            // PUBLISH_DONE is a publisher's last word.
            (Kind::Subscription(subscription), _) if subscription.done.is_some() => None,
            (Kind::Subscription(_), MessageType::PublishStateNotify) if 20 <= version.number() => {
                Some(Meaning::StateNotify)
            }
            (Kind::Subscription(_), MessageType::PublishDone) => Some(Meaning::PublishDone),
            (Kind::NamespaceWatchSent { .. }, MessageType::Namespace) => Some(Meaning::Namespace),
            (Kind::NamespaceWatchSent { .. }, MessageType::NamespaceDone) => {
                Some(Meaning::NamespaceDone)
            }
            (Kind::TracksSent, MessageType::PublishSkipped) => Some(Meaning::PublishSkipped),
            _ => None,
        }
    }

    const fn is_subscribe(&self) -> bool {
        matches!(&self.kind, Kind::Subscription(subscription) if !subscription.by_publish)
    }

    const fn is_answered_by_ok(&self) -> bool {
        match &self.kind {
            Kind::Publication(publication) => publication.by_publish,
            Kind::TrackStatusSent
            | Kind::NamespaceSent
            | Kind::NamespaceWatchSent { .. }
            | Kind::TracksSent => true,
            _ => false,
        }
    }
}

/// Every request that is open, and the numbers that were used.
#[derive(Debug)]
pub(crate) struct Requests {
    table: DenseMap<RequestId, Request>,
    by_stream: NumberMap<StreamId, RequestId>,
    received: usize,
    next: u64,
    seen: SeenIds,
}

impl Requests {
    pub(crate) fn new(side: Side, gaps_max: usize) -> Self {
        let parity = |side| match side {
            Side::Client => 0,
            Side::Server => 1,
        };
        Self {
            table: DenseMap::default(),
            by_stream: NumberMap::default(),
            received: 0,
            next: parity(side),
            seen: SeenIds::new(parity(side.peer()), gaps_max),
        }
    }

    /// The next number of ours.
    pub(crate) const fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next);
        self.next += 2;
        id
    }

    /// The smallest number of the peer's that was not seen.
    pub(crate) fn next_unseen(&self) -> RequestId {
        RequestId(self.seen.first_unseen())
    }

    /// Whether a number has the parity of ours.
    pub(crate) const fn could_be_ours(&self, id: RequestId) -> bool {
        id.0 % 2 == self.next % 2
    }

    /// Notes a number of the peer's.
    pub(crate) fn note_received(&mut self, id: RequestId) -> Result<(), Misbehavior> {
        self.seen.insert(id.0)
    }

    pub(crate) fn insert(&mut self, id: RequestId, request: Request) {
        self.received += usize::from(!request.kind.is_ours());
        self.by_stream.insert(request.stream, id);
        self.table.insert(id, request);
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.table.remove(id)?;
        self.received -= usize::from(!request.kind.is_ours());
        self.by_stream.remove(&request.stream);
        Some(request)
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        self.table.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.table.get_mut(id)
    }

    pub(crate) fn handle(&self, id: RequestId) -> Option<Handle<RequestId>> {
        self.table.handle(id)
    }

    /// The track that a request sends; `None` if it sends none, or is over.
    pub(crate) fn publication_at(
        &mut self,
        request: Handle<RequestId>,
    ) -> Option<&mut Publication> {
        match self.table.at_mut(request) {
            Some(Request { kind: Kind::Publication(publication), .. }) => Some(publication),
            _ => None,
        }
    }

    pub(crate) fn on_stream(&self, stream: StreamId) -> Option<RequestId> {
        self.by_stream.get(&stream).copied()
    }

    /// Open requests of the peer.
    pub(crate) const fn received_count(&self) -> usize {
        self.received
    }

    /// Open requests of either side.
    pub(crate) fn count(&self) -> usize {
        self.table.len()
    }

    /// Calls `each` with every track that we send. The order does not matter.
    pub(crate) fn for_each_publication(
        &mut self,
        mut each: impl FnMut(RequestId, &mut Publication),
    ) {
        for (id, request) in self.table.iter_mut() {
            if let Kind::Publication(publication) = &mut request.kind {
                each(id, publication);
            }
        }
    }

    /// Whether any open request satisfies `test`. The order does not matter.
    pub(crate) fn any(&self, mut test: impl FnMut(RequestId, &Request) -> bool) -> bool {
        self.table.iter().any(|(id, request)| test(id, request))
    }
}

/// The peer's request numbers: each is used once, in any order. A request that is cancelled before it
/// leaves is never seen, so numbers that are missing may be missing for ever.
#[derive(Debug)]
struct SeenIds {
    parity: u64,
    /// Every number of the peer's parity from here on is unseen.
    next: u64,
    /// Ranges below it that are unseen, by where they begin: where each ends, exclusive.
    skipped: BTreeMap<u64, u64>,
    gaps_max: usize,
}

impl SeenIds {
    const fn new(first: u64, gaps_max: usize) -> Self {
        Self { parity: first, next: first, skipped: BTreeMap::new(), gaps_max }
    }

    /// The smallest number that was not seen.
    fn first_unseen(&self) -> u64 {
        self.skipped.first_key_value().map_or(self.next, |(from, _)| *from)
    }

    fn insert(&mut self, id: u64) -> Result<(), Misbehavior> {
        if id % 2 != self.parity {
            return Err(Misbehavior::RequestIdParity);
        }
        if id < self.next {
            return self.fill(id);
        }
        if self.next < id {
            self.skipped.insert(self.next, id);
        }
        self.next = id.saturating_add(2);
        if self.gaps_max < self.skipped.len() {
            // Of so many the first will hardly come any more; if they do, they are refused.
            self.skipped.pop_first();
        }
        Ok(())
    }

    /// Notes a number that was skipped.
    fn fill(&mut self, id: u64) -> Result<(), Misbehavior> {
        let found = self.skipped.range(..=id).next_back().filter(|(_, end)| id < **end);
        let Some((&from, &end)) = found else { return Err(Misbehavior::RequestIdRepeated) };
        self.skipped.remove(&from);
        if from < id {
            self.skipped.insert(from, id);
        }
        if id + 2 < end {
            self.skipped.insert(id + 2, end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_any_order_but_once() {
        let mut seen = SeenIds::new(1, 8);
        for id in [5, 1, 3, 7, 15, 11, 9] {
            assert_eq!(seen.insert(id), Ok(()));
        }
        assert_eq!(seen.first_unseen(), 13);
        assert_eq!(seen.insert(13), Ok(()));
        assert!(seen.skipped.is_empty(), "consecutive numbers take no memory");
        assert_eq!(seen.first_unseen(), 17);
        for id in [1, 7, 13] {
            assert_eq!(seen.insert(id), Err(Misbehavior::RequestIdRepeated));
        }
        assert_eq!(seen.insert(2), Err(Misbehavior::RequestIdParity));
    }

    #[test]
    fn skipped_ids_are_bounded() {
        let mut seen = SeenIds::new(0, 2);
        for id in [10, 20, 30] {
            assert_eq!(seen.insert(id), Ok(()));
        }
        assert_eq!(seen.skipped.len(), 2);
        assert_eq!(seen.insert(8), Err(Misbehavior::RequestIdRepeated), "it is forgotten");
        assert_eq!(seen.insert(18), Ok(()));
        assert_eq!(seen.insert(u64::MAX - 1), Ok(()));
        assert_eq!(seen.insert(u64::MAX - 1), Err(Misbehavior::RequestIdRepeated));
    }

    #[test]
    fn one_id_that_never_comes_forbids_no_others() {
        let mut seen = SeenIds::new(0, 4);
        for id in (2..100_000).step_by(2) {
            assert_eq!(seen.insert(id), Ok(()));
        }
        assert_eq!((seen.first_unseen(), seen.skipped.len()), (0, 1));
    }
}

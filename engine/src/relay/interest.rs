//! SUBSCRIBE_TRACKS on its way to other relays.
//!
//! What is wanted here is asked of every relay that this one has dialled, and of every relay that has
//! dialled this one and told its number. Prefixes of one session must not overlap, so of those that
//! lie in each other only the widest is asked. Between relays with numbers a request says which
//! relays it has passed (HOPS) and is not passed on to one of them: so a wish ends everywhere when
//! nobody has it any more, also where relays are connected in circles. A relay without a number is
//! asked only if it has been dialled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aip_codec::{
    aip::hops::{Hops, RelayId},
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::RequestId,
        message::RequestError,
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
    },
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
};

/// How often a relay is asked that has not heard yet that an overlapping request has ended.
const OVERLAPS_MAX: u8 = 4;
/// The shortest time after which a relay that has refused to tell of tracks is asked again, whatever
/// it has said.
const REFUSED_MIN: Duration = Duration::from_secs(1);
/// The same where it takes a request of ours for one in another's way that it has not got.
const OVERLAP_WAIT: Duration = Duration::from_secs(5);

/// Who wants every track under a prefix.
#[derive(Debug, Default)]
pub(super) struct Interested {
    /// SUBSCRIBE_TRACKS of sessions of this shard.
    watches: BTreeSet<RequestKey>,
    /// Other shards, with the relays that each wish there has passed.
    shards: BTreeMap<PeerIndex, Vec<Hops>>,
}

/// Prefixes under which every track is wanted.
pub(super) type Interests = BTreeMap<TrackNamespace, Interested>;

/// A SUBSCRIBE_TRACKS of ours at another relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AskedTracks {
    request: RequestId,
    /// What it was told of the relays passed.
    hops: Option<Hops>,
    /// Times that it was refused for a request that had ended.
    overlaps: u8,
}

/// What a relay has refused to tell of. It stays refused when nobody wants it any more, so that
/// whoever comes and goes makes nobody ask for it again and again.
#[derive(Debug, Default)]
pub(crate) struct RefusedTracks {
    /// Prefixes, and when they are asked for again, if ever.
    prefixes: BTreeMap<TrackNamespace, Option<Instant>>,
    /// Whether it does not know SUBSCRIBE_TRACKS at all.
    is_all: bool,
}

impl RefusedTracks {
    fn contains(&self, prefix: &TrackNamespace) -> bool {
        self.is_all || self.prefixes.contains_key(prefix)
    }

    /// Forgets the prefixes that may be asked for again, and returns them.
    fn take_due(&mut self, now: Instant) -> Vec<TrackNamespace> {
        let is_due = |when: &Option<Instant>| when.is_some_and(|when| when <= now);
        let due = self.prefixes.iter().filter(|(_, when)| is_due(when));
        let due: Vec<TrackNamespace> = due.map(|(prefix, _)| prefix.clone()).collect();
        self.prefixes.retain(|_, when| !is_due(when));
        due
    }
}

impl Relay {
    /// The relays that a SUBSCRIBE_TRACKS has passed, its sender among them.
    pub(super) fn hops_of_watch(&self, key: RequestKey, parameters: &Parameters) -> Hops {
        let peer = &self.peers[key.peer.0];
        if peer.is_upstream_relay() && peer.relay_id().is_none() {
            return Hops::new().then(RelayId::UNKNOWN).unwrap_or_default();
        }
        self.hops_of(key, parameters)
    }

    /// A session wants every track under a prefix, or no more.
    pub(super) fn note_interest(
        &mut self,
        prefix: &TrackNamespace,
        key: RequestKey,
        is_wanted: bool,
    ) {
        let entry = self.interests.entry(prefix.clone()).or_default();
        if is_wanted {
            entry.watches.insert(key);
        } else {
            entry.watches.remove(&key);
        }
        self.mesh.interest_changed(prefix.clone());
        self.interest_changed(prefix);
    }

    /// Another shard tells who wants every track under a prefix there: the relays that each wish has
    /// passed. Nobody, if there is none.
    pub(super) fn note_interest_of_shard(
        &mut self,
        shard: PeerIndex,
        prefix: &TrackNamespace,
        wishes: Vec<Hops>,
    ) {
        let entry = self.interests.entry(prefix.clone()).or_default();
        if wishes.is_empty() {
            entry.shards.remove(&shard);
        } else {
            entry.shards.insert(shard, wishes);
        }
        self.interest_changed(prefix);
    }

    /// The link to another shard is lost, and with it what is wanted there.
    pub(super) fn forget_interests_of_shard(&mut self, shard: PeerIndex) {
        let of_shard = self.interests.iter().filter(|(_, it)| it.shards.contains_key(&shard));
        let prefixes: Vec<TrackNamespace> = of_shard.map(|(prefix, _)| prefix.clone()).collect();
        for prefix in prefixes {
            self.note_interest_of_shard(shard, &prefix, Vec::new());
        }
    }

    /// The prefixes under which sessions of this shard want every track.
    pub(super) fn watched_prefixes(&self) -> BTreeSet<TrackNamespace> {
        let watched = self.interests.iter().filter(|(_, it)| !it.watches.is_empty());
        watched.map(|(prefix, _)| prefix.clone()).collect()
    }

    /// The relays that each wish of this shard's sessions has passed; only one that has passed none,
    /// if there is one: others say no more than that.
    pub(super) fn wishes_of_sessions(&self, prefix: &TrackNamespace) -> Vec<Hops> {
        let Some(entry) = self.interests.get(prefix) else { return Vec::new() };
        let mut wishes = BTreeSet::new();
        for key in &entry.watches {
            let Some(watch) = self.track_watches.get(key) else { continue };
            if watch.hops.is_empty() {
                return vec![Hops::new()];
            }
            wishes.insert(watch.hops.clone());
        }
        wishes.into_iter().collect()
    }

    /// Whether anybody but one session wants every track of a namespace.
    pub(super) fn is_watched_beside(&self, namespace: &TrackNamespace, peer: PeerIndex) -> bool {
        prefixes_of(namespace).any(|prefix| {
            self.interests.get(&prefix).is_some_and(|entry| {
                !entry.shards.is_empty() || entry.watches.iter().any(|key| key.peer != peer)
            })
        })
    }

    /// Whether a relay was asked for every track of a namespace.
    pub(super) fn has_asked_for_tracks(&self, peer: PeerIndex, namespace: &TrackNamespace) -> bool {
        let asked = self.peers.get(peer.0).map(|peer| &peer.asked_tracks);
        asked.is_some_and(|asked| asked.keys().any(|prefix| prefix.is_prefix_of(namespace)))
    }

    fn interest_changed(&mut self, prefix: &TrackNamespace) {
        for relay in self.relays.clone() {
            self.ask_for_tracks(relay, prefix, 0);
        }
        let entry = self.interests.get(prefix);
        if entry.is_some_and(|entry| entry.watches.is_empty() && entry.shards.is_empty()) {
            self.interests.remove(prefix);
        }
    }

    /// Another relay is there: it is asked for all that is wanted here.
    pub(super) fn ask_for_all_tracks(&mut self, relay: PeerIndex) {
        let prefixes: Vec<TrackNamespace> = self.interests.keys().cloned().collect();
        for prefix in prefixes {
            self.ask_for_tracks(relay, &prefix, 0);
        }
    }

    /// Brings what one relay is asked under a prefix in step with who wants it.
    fn ask_for_tracks(&mut self, relay: PeerIndex, prefix: &TrackNamespace, overlaps: u8) {
        let Some(peer) = self.peers.get(relay.0) else { return };
        if peer.asked_tracks.keys().any(|wider| wider != prefix && wider.is_prefix_of(prefix)) {
            return;
        }
        let is_refused = peer.refused_tracks.contains(prefix);
        let wish = self.wish_for(relay, prefix).filter(|_| !is_refused);
        match (wish, peer.asked_tracks.get(prefix).cloned()) {
            (Some(hops), None) => self.begin_to_ask(relay, prefix, hops, overlaps),
            (Some(hops), Some(asked)) => self.tell_hops(relay, prefix, hops, asked),
            (None, Some(asked)) => {
                self.cease_to_ask(relay, prefix, asked.request);
                for narrower in self.narrower(prefix) {
                    self.ask_for_tracks(relay, &narrower, 0);
                }
            }
            (None, None) => {}
        }
    }

    /// Why a relay is to be asked for every track under a prefix: the relays that the shortest of
    /// the wishes has passed, this one the last. `None` if nobody wants it who may be told there.
    fn wish_for(&self, relay: PeerIndex, prefix: &TrackNamespace) -> Option<Option<Hops>> {
        let entry = self.interests.get(prefix)?;
        let own = self.config.session.relay_id;
        let other = self.peers.get(relay.0)?.relay_id();
        let avoided = [own, other.or(Some(RelayId::UNKNOWN))];
        let of_sessions = entry.watches.iter().filter(|key| key.peer != relay);
        let of_sessions = of_sessions.filter_map(|key| Some(&self.track_watches.get(key)?.hops));
        let wishes = of_sessions.chain(entry.shards.values().flatten());
        let mut may_be_told = wishes
            .filter(|hops| !avoided.into_iter().flatten().any(|relay| hops.contains(relay)))
            .peekable();
        may_be_told.peek()?;
        let (Some(own), Some(_)) = (own, other) else { return Some(None) };
        // Nothing is shorter than what has passed no relay, of which there may be very many.
        let mut best: Option<&Hops> = None;
        for hops in may_be_told {
            if best.is_none_or(|best| (hops.len(), hops) < (best.len(), best)) {
                best = Some(hops);
            }
            if hops.is_empty() {
                break;
            }
        }
        best?.then(own).map(Some)
    }

    fn begin_to_ask(
        &mut self,
        relay: PeerIndex,
        prefix: &TrackNamespace,
        hops: Option<Hops>,
        overlaps: u8,
    ) {
        for narrower in self.narrower(prefix) {
            let asked = self.peers[relay.0].asked_tracks.get(&narrower);
            if let Some(request) = asked.map(|asked| asked.request) {
                self.cease_to_ask(relay, &narrower, request);
            }
        }
        if !self.has_room_to_ask(relay) {
            self.service.counters.track_watches_ignored_total += 1;
            return;
        }
        let mut parameters = Parameters::default();
        if let Some(hops) = &hops {
            parameters.push(Parameter::Hops(hops.clone()));
        }
        let Some(session) = self.session(relay) else { return };
        if let Ok(request) = session.subscribe_tracks(prefix.clone(), parameters) {
            let asked = AskedTracks { request, hops, overlaps };
            self.peers[relay.0].asked_tracks.insert(prefix.clone(), asked);
            self.own(RequestKey { peer: relay, request }, Owner::TracksAbove(prefix.clone()));
        }
    }

    /// Whether a relay may be asked for one more prefix. What it has refused counts, too, as long as
    /// somebody wants it.
    fn has_room_to_ask(&mut self, relay: PeerIndex) -> bool {
        let limit = self.config.relay_watches_max;
        let Some(peer) = self.peers.get_mut(relay.0) else { return false };
        let refused = &mut peer.refused_tracks.prefixes;
        if limit <= peer.asked_tracks.len() + refused.len() {
            refused.retain(|prefix, _| self.interests.contains_key(prefix));
        }
        peer.asked_tracks.len() + refused.len() < limit
    }

    fn tell_hops(
        &mut self,
        relay: PeerIndex,
        prefix: &TrackNamespace,
        hops: Option<Hops>,
        asked: AskedTracks,
    ) {
        let Some(told) = hops.clone().filter(|_| asked.hops != hops) else { return };
        let Some(session) = self.session(relay) else { return };
        let parameters = Parameters::default().with(Parameter::Hops(told));
        match session.update(asked.request, parameters) {
            Ok(_) => {
                let asked = AskedTracks { hops, ..asked };
                self.peers[relay.0].asked_tracks.insert(prefix.clone(), asked);
            }
            Err(error) => tracing::debug!(%error, "a relay cannot be told who wants its tracks"),
        }
    }

    fn cease_to_ask(&mut self, relay: PeerIndex, prefix: &TrackNamespace, request: RequestId) {
        self.peers[relay.0].asked_tracks.remove(prefix);
        self.disown(RequestKey { peer: relay, request });
        if let Some(session) = self.session(relay) {
            session.cancel(request, ResetCode::CANCELLED);
        }
    }

    /// Prefixes under another one under which every track is wanted, too.
    fn narrower(&self, prefix: &TrackNamespace) -> Vec<TrackNamespace> {
        let at_or_under = self.interests.range(prefix.clone()..).map(|(other, _)| other);
        let under = at_or_under.take_while(|other| prefix.is_prefix_of(other));
        under.filter(|other| *other != prefix).cloned().collect()
    }

    /// A relay has told of no more tracks under a prefix.
    pub(super) fn asked_tracks_ended(&mut self, key: RequestKey, prefix: &TrackNamespace) {
        self.disown(key);
        let asked = self.peers.get_mut(key.peer.0).map(|peer| &mut peer.asked_tracks);
        if let Some(asked) = asked
            && asked.get(prefix).is_some_and(|asked| asked.request == key.request)
        {
            asked.remove(prefix);
        }
    }

    /// A relay refuses to tell of tracks. If it has not heard yet that another request of ours has
    /// ended, it is asked again at once; otherwise when it says, if it says so. Until then it is asked
    /// for what is wanted under the prefix.
    pub(super) fn asked_tracks_refused(
        &mut self,
        key: RequestKey,
        prefix: &TrackNamespace,
        error: &RequestError,
        now: Instant,
    ) {
        let asked = self.peers[key.peer.0].asked_tracks.get(prefix);
        let overlaps = asked.map_or(OVERLAPS_MAX, |asked| asked.overlaps + 1);
        self.asked_tracks_ended(key, prefix);
        if error.code == RequestCode::PREFIX_OVERLAP && overlaps < OVERLAPS_MAX {
            self.ask_for_tracks(key.peer, prefix, overlaps);
            return;
        }
        tracing::warn!(code = %error.code, reason = %error.reason, %prefix, "a relay does not tell of tracks");
        let when = ask_again_after(error).map(|wait| now + wait);
        let refused = &mut self.peers[key.peer.0].refused_tracks;
        refused.is_all |= error.code == RequestCode::NOT_SUPPORTED;
        refused.prefixes.insert(prefix.clone(), when);
        if let Some(when) = when {
            self.asks_again.insert((when, key.peer));
        }
        for narrower in self.narrower(prefix) {
            self.ask_for_tracks(key.peer, &narrower, 0);
        }
    }

    /// Asks relays again for what they have refused a while ago.
    pub(super) fn ask_again(&mut self, now: Instant) {
        while let Some(&(when, relay)) = self.asks_again.first() {
            if now < when {
                return;
            }
            self.asks_again.pop_first();
            let Some(peer) = self.peers.get_mut(relay.0) else { continue };
            for prefix in peer.refused_tracks.take_due(now) {
                self.ask_for_tracks(relay, &prefix, 0);
            }
        }
    }
}

/// After which time a relay may be asked again for what it has refused; never, if that is `None`.
fn ask_again_after(error: &RequestError) -> Option<Duration> {
    match error.retry_interval {
        0 if error.code == RequestCode::PREFIX_OVERLAP => Some(OVERLAP_WAIT),
        0 => None,
        // One more than the milliseconds that it means.
        interval => Some(Duration::from_millis(interval - 1).max(REFUSED_MIN)),
    }
}

/// A namespace and every prefix of it, the longest first.
fn prefixes_of(namespace: &TrackNamespace) -> impl Iterator<Item = TrackNamespace> {
    (0..=namespace.field_count())
        .rev()
        .filter_map(|count| TrackNamespace::new(namespace.fields().take(count)).ok())
}

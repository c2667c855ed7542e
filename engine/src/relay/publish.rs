//! PUBLISH: of sessions to us, and of ours to who wants every track under a prefix.

use std::{collections::BTreeSet, time::Instant};

use aip_codec::{
    Version,
    aip::hops::Hops,
    moqt::{
        error_code::RequestCode,
        filter::LocationFilter,
        id::TrackAlias,
        location::Location,
        message::Publish,
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey},
    peer::{Owner, PeerIndex},
    subscribe::{Asker, Terms},
    track::{TrackIndex, Upstream, Wish},
};

impl Relay {
    pub(super) fn publish_received(&mut self, key: RequestKey, body: Publish, now: Instant) {
        if self.peers[key.peer.0].is_shard() {
            self.offered_by_shard(key, body, now);
            return;
        }
        if body.properties.unknown_mandatory_track_property().is_some() {
            let reason = "mandatory track property not understood";
            self.reject(key, RequestCode::UNSUPPORTED_EXTENSION, reason);
            return;
        }
        if body.properties.check_immutable().is_err() {
            self.reject(key, RequestCode::MALFORMED_TRACK, "immutable properties are malformed");
            return;
        }
        let Some(index) = self.track_for(key, &body.track) else { return };
        if !self.takes_publication(index, key.peer) {
            self.reject(key, RequestCode::UNINTERESTED, "this relay does not need the track now");
            self.note_offer(index, key.peer);
            if self.is_watched_beside(body.track.namespace(), key.peer) {
                self.publish_from_elsewhere(&body.track, None, now);
            }
            self.forget_track_if_unused(index);
            return;
        }
        if self.has_all_publishers(index) {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many publishers of this track");
            self.forget_track_if_unused(index);
            return;
        }
        let is_first = self.tracks[index.0].publications() == 0;
        let sends = body.parameters.forward().unwrap_or(true);
        self.tracks[index.0].upstreams.push(Upstream {
            key,
            by_publish: true,
            is_shard: false,
            established: false,
            is_heard: true,
            alias: Some(body.track_alias),
            forward: sends,
            told_hops: None,
            deadline: now,
            is_leaving: false,
        });
        self.update_rendezvous(index);
        self.own(key, Owner::Upstream(index));
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, Parameters::default(), Properties::default());
        }
        let largest = body.parameters.largest_object();
        let terms = Terms { alias: body.track_alias, largest, properties: body.properties };
        self.establish_upstream(index, key, terms, now);
        self.want_forward(index, now);
        self.mesh.publication_changed(body.track.clone());
        if is_first && sends {
            self.offer_to_shards(index, now);
        }
        self.publish_to_watchers(index, key.peer, now);
    }

    /// There is one more publication of a track: everyone who wants every track under a prefix of
    /// its namespace is told, but for its publisher.
    pub(super) fn publish_to_watchers(
        &mut self,
        index: TrackIndex,
        publisher: PeerIndex,
        now: Instant,
    ) {
        let track = &self.tracks[index.0];
        let alias = track.alias;
        let interested = self.namespaces.interested_in(track.name.namespace(), Interest::Tracks);
        for watcher in interested.into_iter().filter(|watcher| watcher.peer != publisher) {
            if let Some(watch) = self.track_watches.get_mut(&watcher) {
                // This is another publication than what it was not to be told of.
                watch.done_with.remove(&alias);
            }
            self.publish_to(index, watcher, now);
        }
    }

    /// Publishes a track to who wants every track under a prefix of its namespace.
    pub(super) fn publish_to(&mut self, index: TrackIndex, watcher: RequestKey, now: Instant) {
        let track = &self.tracks[index.0];
        let already = track.subscribers.iter().any(|(_, other)| other.key.peer == watcher.peer)
            || track.has_upstream_in(watcher.peer);
        if already {
            return;
        }
        let Some(watch) = self.track_watches.get(&watcher) else { return };
        let Some(ranges) = watch.wish.ranges.for_track(&track.properties) else { return };
        let wish = Wish { ranges, ..watch.wish.clone() };
        let properties =
            if watch.include_properties { track.properties.clone() } else { Properties::default() };
        let (name, alias, largest) = (track.name.clone(), track.alias, track.largest);
        if watch.done_with.contains(&alias) {
            return;
        }
        if self.config.session_publications_max <= self.peers[watcher.peer.0].publication_count {
            self.skip(watcher, &name, alias);
            return;
        }
        let Some(session) = self.session(watcher.peer) else { return };
        let parameters = publish_parameters(&wish, largest, session.version());
        if let Ok(request) = session.publish(name, alias, parameters, properties) {
            let key = RequestKey { peer: watcher.peer, request };
            self.peers[watcher.peer.0].publication_count += 1;
            // Other shards may have publishers of it, too.
            let asker = Asker { key: watcher, wants_objects: wish.forward };
            self.ask_other_shards(index, asker, now);
            self.add_subscriber(index, key, wish, now);
            if let Some(watch) = self.track_watches.get_mut(&watcher) {
                watch.done_with.insert(alias);
            }
        }
    }

    /// Says that a track is not published to a watcher, which may still subscribe to it.
    pub(super) fn skip(&mut self, watcher: RequestKey, name: &FullTrackName, alias: TrackAlias) {
        let Some(Owner::TracksWatch(prefix)) =
            self.peers[watcher.peer.0].requests.get(&watcher.request)
        else {
            return;
        };
        let Some(suffix) = name.namespace().strip_prefix(prefix) else { return };
        if let Some(watch) = self.track_watches.get_mut(&watcher) {
            watch.done_with.insert(alias);
        }
        if let Some(session) = self.session(watcher.peer) {
            session.publish_skipped(watcher.request, suffix, name.name().clone());
        }
    }

    /// Whether a watcher was told of a track's present publication, or that it will not be.
    pub(super) fn is_done_with(&self, watcher: RequestKey, alias: TrackAlias) -> bool {
        self.track_watches.get(&watcher).is_some_and(|watch| watch.done_with.contains(&alias))
    }

    /// The aliases of all tracks under a prefix that are here, published elsewhere or offered.
    pub(super) fn aliases_under(&self, prefix: &TrackNamespace) -> BTreeSet<TrackAlias> {
        let here = self.tracks.iter().map(|(_, track)| (&track.name, track.alias));
        let all = here.chain(self.mesh.aliases()).chain(self.offers.aliases());
        let under = all.filter(|(name, _)| prefix.is_prefix_of(name.namespace()));
        under.map(|(_, alias)| alias).collect()
    }

    /// A track is no more: nor is what its watchers were told of it.
    pub(super) fn forget_publication(&mut self, track: &FullTrackName, alias: TrackAlias) {
        for watcher in self.namespaces.interested_in(track.namespace(), Interest::Tracks) {
            if let Some(watch) = self.track_watches.get_mut(&watcher) {
                watch.done_with.remove(&alias);
            }
        }
    }

    /// A subscriber has accepted our PUBLISH; in drafts 18 and 19 it says with that what it wants.
    pub(super) fn publish_accepted(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        parameters: &Parameters,
        now: Instant,
    ) {
        self.change_subscriber((index, subscriber), parameters);
        self.note_relay_below((index, subscriber), now);
        self.want_forward(index, now);
    }

    /// Another relay takes a track that we have published to it. Until then it may have refused, for
    /// we may have the track from it ourselves.
    fn note_relay_below(&mut self, (index, subscriber): (TrackIndex, usize), now: Instant) {
        let Some(key) = self.tracks[index.0].subscribers.get(subscriber).map(|it| it.key) else {
            return;
        };
        if self.peers[key.peer.0].is_relay() {
            self.note_hops((index, subscriber), key, &Parameters::default());
            self.leave_upstreams(index, now, |upstream| upstream.key.peer == key.peer);
        }
    }
}

/// What a SUBSCRIBE_TRACKS asked for.
#[derive(Clone, Debug)]
pub(crate) struct TracksWatch {
    /// What the subscriptions that come of it begin with.
    pub(crate) wish: Wish,
    pub(crate) include_properties: bool,
    /// The relays that it has passed.
    pub(crate) hops: Hops,
    /// Tracks whose present publication it has been told of, or that it will not be.
    pub(crate) done_with: BTreeSet<TrackAlias>,
}

impl TracksWatch {
    pub(crate) fn of(parameters: &Parameters, hops: Hops) -> Self {
        let include_properties = parameters.include_properties() != Some(false);
        let wish = Wish::of(parameters);
        Self { wish, include_properties, hops, done_with: BTreeSet::new() }
    }
}

/// What a PUBLISH says of the subscription that it begins, as far as its draft can.
fn publish_parameters(wish: &Wish, largest: Option<Location>, version: Version) -> Parameters {
    let mut parameters = Parameters::default();
    if let Some(largest) = largest {
        parameters.push(Parameter::LargestObject(largest));
    }
    if !wish.forward {
        parameters.push(Parameter::Forward(false));
    }
    if Version::Draft20 <= version {
        if wish.filter != LocationFilter::None {
            parameters.push(Parameter::LocationFilter(wish.filter));
        }
        if let Some(order) = wish.order {
            parameters.push(Parameter::GroupOrder(order));
        }
    }
    parameters
}

//! PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE and SUBSCRIBE_TRACKS of sessions.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::RequestCode,
    message::{PublishNamespace, SubscribeTracks},
    name::TrackNamespace,
    parameter::Parameters,
    property::Properties,
};

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey},
    peer::Owner,
    publish::TracksWatch,
    subscribe::is_reserved,
    track::TrackIndex,
};

impl Relay {
    pub(super) fn publish_namespace_received(
        &mut self,
        key: RequestKey,
        body: &PublishNamespace,
        now: Instant,
    ) {
        let (peer, namespace) = (&self.peers[key.peer.0], &body.namespace);
        if is_reserved(namespace) {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "reserved namespace");
        } else if self.config.session_namespaces_max <= peer.namespace_count
            || self.config.namespaces_max <= self.namespaces.published()
        {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many namespaces");
        } else {
            self.peers[key.peer.0].namespace_count += 1;
            self.own(key, Owner::Namespace(namespace.clone()));
            if let Some(session) = self.session(key.peer) {
                session.accept(key.request, Parameters::default(), Properties::default());
            }
            let route = self.route_from(key, &body.parameters);
            self.set_route(key, namespace, route, now);
        }
    }

    /// A publisher of a namespace has changed what it says of it: another relay, the way.
    pub(super) fn update_published_namespace(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        parameters: &Parameters,
        now: Instant,
    ) {
        if parameters.hops().is_some() || parameters.cost().is_some() {
            let route = self.route_from(key, parameters);
            self.set_route(key, namespace, route, now);
        }
    }

    pub(super) fn unpublish_namespace(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        now: Instant,
    ) {
        if let Some(peer) = self.peers.get_mut(key.peer.0) {
            peer.namespace_count = peer.namespace_count.saturating_sub(1);
        }
        self.set_route(key, namespace, None, now);
    }

    /// Tracks that somebody has or waits for are asked of every publisher, also one that comes
    /// later: who was asked before may never answer.
    pub(super) fn subscribe_to_new_publisher(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        now: Instant,
    ) {
        for (_, track) in &mut self.tracks {
            if namespace.is_prefix_of(track.name.namespace()) {
                track.refused.remove(&key.peer);
            }
        }
        if self.peers[key.peer.0].is_relay() {
            self.replace_leaving(now);
            return;
        }
        let wanted: Vec<TrackIndex> = self
            .tracks
            .iter()
            .filter(|(_, track)| {
                let is_wanted = !track.subscribers.is_empty() || !track.waiting.is_empty();
                is_wanted
                    && namespace.is_prefix_of(track.name.namespace())
                    && !track.has_upstream_in(key.peer)
            })
            .map(|(index, _)| TrackIndex(index))
            .collect();
        for index in wanted {
            self.ask_publishers(index, None, now);
        }
    }

    pub(super) fn tell_namespace(
        &mut self,
        watcher: RequestKey,
        namespace: &TrackNamespace,
        is_there: bool,
    ) {
        let Some(Owner::NamespaceWatch(prefix)) =
            self.peers[watcher.peer.0].requests.get(&watcher.request)
        else {
            return;
        };
        let Some(suffix) = namespace.strip_prefix(prefix) else { return };
        let Some(session) = self.session(watcher.peer) else { return };
        if is_there {
            session.namespace(watcher.request, suffix, Parameters::default());
        } else {
            session.namespace_done(watcher.request, suffix);
        }
    }

    pub(super) fn subscribe_namespace_received(
        &mut self,
        key: RequestKey,
        prefix: &TrackNamespace,
    ) {
        if !self.may_watch(key, prefix) {
            return;
        }
        self.peers[key.peer.0].watch_count += 1;
        self.own(key, Owner::NamespaceWatch(prefix.clone()));
        self.namespaces.watch(prefix, key, Interest::Namespaces);
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, Parameters::default(), Properties::default());
        }
        self.tell_published(key, prefix);
    }

    fn tell_published(&mut self, key: RequestKey, prefix: &TrackNamespace) {
        if self.peers[key.peer.0].relay_id().is_some() {
            self.announce_under(key, prefix);
            return;
        }
        let limit = self.config.namespaces_max;
        let found = self.namespaces.published_under(prefix, limit);
        if let Some(session) = self.session(key.peer) {
            for suffix in found {
                session.namespace(key.request, suffix, Parameters::default());
            }
        }
    }

    /// The session layer has refused overlapping prefixes; here the rest is checked.
    fn may_watch(&mut self, key: RequestKey, prefix: &TrackNamespace) -> bool {
        if is_reserved(prefix) {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "reserved namespace");
            return false;
        }
        if self.config.session_watches_max <= self.peers[key.peer.0].watch_count {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many watched prefixes");
            return false;
        }
        // Other relays have to know all there is.
        let limit = self.config.watched_namespaces_max;
        let is_relay = self.peers[key.peer.0].is_relay();
        if !is_relay && limit < self.namespaces.published_under(prefix, limit + 1).len() {
            let reason = "too many namespaces have this prefix";
            self.reject(key, RequestCode::NAMESPACE_TOO_LARGE, reason);
            return false;
        }
        true
    }

    pub(super) fn subscribe_tracks_received(
        &mut self,
        key: RequestKey,
        body: &SubscribeTracks,
        now: Instant,
    ) {
        if !self.may_watch(key, &body.prefix) {
            return;
        }
        self.peers[key.peer.0].watch_count += 1;
        self.own(key, Owner::TracksWatch(body.prefix.clone()));
        self.namespaces.watch(&body.prefix, key, Interest::Tracks);
        let hops = self.hops_of_watch(key, &body.parameters);
        self.track_watches.insert(key, TracksWatch::of(&body.parameters, hops));
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, Parameters::default(), Properties::default());
        }
        self.publish_existing(key, &body.prefix, now);
        self.note_interest(&body.prefix, key, true);
    }

    /// Publishes to a new watcher the tracks that were published to us before it came.
    pub(super) fn publish_existing(
        &mut self,
        key: RequestKey,
        prefix: &TrackNamespace,
        now: Instant,
    ) {
        let existing: Vec<TrackIndex> = self
            .tracks
            .iter()
            .filter(|(_, track)| {
                prefix.is_prefix_of(track.name.namespace())
                    && track
                        .upstreams
                        .iter()
                        .any(|upstream| upstream.by_publish && upstream.key.peer != key.peer)
            })
            .map(|(index, _)| TrackIndex(index))
            .collect();
        for index in existing {
            self.publish_to(index, key, now);
        }
        let mut elsewhere = self.mesh.published_under(prefix);
        let offered = self.offers.under(prefix).into_iter();
        elsewhere.extend(offered.filter(|it| self.offers.relays(it).any(|peer| peer != key.peer)));
        for name in elsewhere {
            self.publish_from_elsewhere(&name, Some(key), now);
        }
    }

    /// Changes what a SUBSCRIBE_TRACKS wants of tracks to come; false if it cannot be had.
    pub(super) fn update_tracks_watch(
        &mut self,
        key: RequestKey,
        old: &TrackNamespace,
        parameters: &Parameters,
        now: Instant,
    ) -> bool {
        let ranges_max = self.config.session.filter_ranges_max;
        let hops = parameters.hops().map(|_| self.hops_of_watch(key, parameters));
        let Some(watch) = self.track_watches.get_mut(&key) else { return false };
        if !watch.wish.update(parameters, ranges_max) {
            return false;
        }
        let is_told_anew = hops.is_some();
        watch.hops = hops.unwrap_or_else(|| std::mem::take(&mut watch.hops));
        if let Some(prefix) = parameters.track_namespace_prefix().cloned() {
            self.namespaces.unwatch(old, key);
            self.namespaces.watch(&prefix, key, Interest::Tracks);
            self.own(key, Owner::TracksWatch(prefix.clone()));
            // Nobody would tell it when a track is forgotten that is not under its prefix.
            let under = self.aliases_under(&prefix);
            if let Some(watch) = self.track_watches.get_mut(&key) {
                watch.done_with.retain(|alias| under.contains(alias));
            }
            self.publish_existing(key, &prefix, now);
            self.note_interest(old, key, false);
            self.note_interest(&prefix, key, true);
        } else if is_told_anew {
            self.note_interest(old, key, true);
        }
        true
    }

    /// What was told to a watch is not said any more under its new prefix.
    fn tell_gone(&mut self, key: RequestKey, old: &TrackNamespace) {
        if self.peers[key.peer.0].relay_id().is_some() {
            self.withdraw_told_to(key);
            return;
        }
        let gone = self.namespaces.published_under(old, self.config.namespaces_max);
        if let Some(session) = self.session(key.peer) {
            for suffix in gone {
                session.namespace_done(key.request, suffix);
            }
        }
    }

    /// Moves a SUBSCRIBE_NAMESPACE to another prefix. What is told before REQUEST_OK is relative to
    /// the old one, what follows it to the new one.
    pub(super) fn update_namespace_watch(
        &mut self,
        key: RequestKey,
        old: &TrackNamespace,
        parameters: &Parameters,
    ) {
        let prefix = parameters.track_namespace_prefix().cloned();
        if prefix.is_some() {
            self.tell_gone(key, old);
        }
        if let Some(session) = self.session(key.peer) {
            session.accept_update(key.request, Parameters::default());
        }
        let Some(prefix) = prefix else { return };
        self.namespaces.unwatch(old, key);
        self.namespaces.watch(&prefix, key, Interest::Namespaces);
        self.own(key, Owner::NamespaceWatch(prefix.clone()));
        self.tell_published(key, &prefix);
    }
}

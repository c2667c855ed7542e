//! What this relay tells other relays of namespaces, and what it makes of what they tell.
//!
//! Between relays that have both told their numbers an announcement carries the relays that it has
//! passed and what the way costs. Each tells the others its best way only, and never one that has
//! passed the other already: so a way can not go in circles, and what has no publisher any more
//! ends everywhere. To a relay without a number it is the draft's own announcement; what comes from
//! such a relay is marked by the number 0, and is told to no other that has none.

use std::time::Instant;

use aip_codec::{
    aip::hops::{Hops, RelayId},
    moqt::{
        error_code::ResetCode,
        id::RequestId,
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
    },
};

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey, Route},
    peer::{Owner, PeerIndex},
    subscribe::is_reserved,
};

/// What another relay was told of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Announcement {
    /// Our PUBLISH_NAMESPACE, or the relay's SUBSCRIBE_NAMESPACE that we answer.
    request: RequestId,
    way: Way,
}

/// How a way looks from outside: from its publisher to this relay, which is the last hop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Way {
    hops: Hops,
    cost: u64,
}

impl Way {
    /// As parameters; none to a relay that has no number.
    fn parameters(&self) -> Parameters {
        if self.hops.is_empty() {
            return Parameters::default();
        }
        Parameters::default()
            .with(Parameter::Hops(self.hops.clone()))
            .with(Parameter::Cost(self.cost))
    }
}

impl Relay {
    /// The way that another session tells, as seen from here. `None` if it leads through this
    /// relay, or through too many.
    pub(super) fn route_from(&self, key: RequestKey, parameters: &Parameters) -> Option<Route> {
        let peer = self.peers.get(key.peer.0)?;
        if !peer.is_relay() {
            return Some(Route::direct(key));
        }
        let told = parameters.hops().cloned().unwrap_or_default();
        let sender = peer.relay_id().unwrap_or(RelayId::UNKNOWN);
        let hops = if told.last() == Some(sender) { told } else { told.then(sender)? };
        if self.config.session.relay_id.is_some_and(|own| hops.contains(own)) {
            return None;
        }
        let cost = parameters.cost().unwrap_or(0).saturating_add(self.config.link_cost);
        Some(Route { key, hops, cost, shard: false })
    }

    /// Notes the way that a request tells to a namespace, or that it tells none (any more).
    pub(super) fn set_route(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        route: Option<Route>,
        now: Instant,
    ) {
        let is_new = route.is_some();
        let changed = match route {
            Some(route) => self.namespaces.publish(namespace, route),
            None => self.namespaces.unpublish(namespace, key),
        };
        if changed {
            for watcher in self.namespaces.interested_in(namespace, Interest::Namespaces) {
                if self.peers[watcher.peer.0].relay_id().is_none() {
                    self.tell_namespace(watcher, namespace, is_new);
                }
            }
        }
        if self.peers.get(key.peer.0).is_some_and(|peer| !peer.is_shard()) {
            self.mesh.namespace_changed(namespace.clone());
        }
        self.announce(namespace);
        if is_new {
            self.retry_waiting(namespace, now);
            self.subscribe_to_new_publisher(key, namespace, now);
        }
    }

    /// Tells every other relay what has changed for it.
    fn announce(&mut self, namespace: &TrackNamespace) {
        for watcher in self.namespaces.interested_in(namespace, Interest::Namespaces) {
            if self.peers[watcher.peer.0].relay_id().is_some() {
                self.announce_to(watcher.peer, namespace, Some(watcher.request));
            }
        }
        for relay in self.upstream_relays() {
            self.announce_to(relay, namespace, None);
        }
    }

    /// Tells a relay that we have dialled of everything there is.
    pub(super) fn announce_all_to(&mut self, peer: PeerIndex) {
        let root = TrackNamespace::default();
        for namespace in self.namespaces.published_under(&root, self.config.namespaces_max) {
            self.announce_to(peer, &namespace, None);
        }
    }

    /// Answers another relay's SUBSCRIBE_NAMESPACE with everything there is under its prefix.
    pub(super) fn announce_under(&mut self, watch: RequestKey, prefix: &TrackNamespace) {
        for suffix in self.namespaces.published_under(prefix, self.config.namespaces_max) {
            if let Ok(namespace) = prefix.join(&suffix) {
                self.announce_to(watch.peer, &namespace, Some(watch.request));
            }
        }
    }

    /// Brings what one relay was told of a namespace in step with what there is.
    fn announce_to(
        &mut self,
        peer: PeerIndex,
        namespace: &TrackNamespace,
        watch: Option<RequestId>,
    ) {
        let wanted = self.way_for(peer, namespace);
        let told = self.peers[peer.0].announced.get(namespace).cloned();
        match (wanted, told) {
            (Some(wanted), Some(told)) if wanted == told.way => {}
            (Some(wanted), told) => self.tell_way(peer, namespace, wanted, told, watch),
            (None, Some(told)) => self.withdraw(peer, namespace, &told),
            (None, None) => {}
        }
    }

    /// What a relay is to be told of a namespace; `None` is nothing.
    fn way_for(&self, peer: PeerIndex, namespace: &TrackNamespace) -> Option<Way> {
        let routes = self.namespaces.routes(namespace);
        let own = self.config.session.relay_id;
        if let (Some(own), Some(other)) = (own, self.peers[peer.0].relay_id()) {
            let best = routes.first().filter(|best| best.key.peer != peer)?;
            if best.hops.contains(other) {
                return None;
            }
            return Some(Way { hops: best.hops.then(own)?, cost: best.cost });
        }
        let is_known =
            |route: &Route| route.key.peer != peer && !route.hops.contains(RelayId::UNKNOWN);
        routes.iter().any(is_known).then(Way::default)
    }

    fn tell_way(
        &mut self,
        peer: PeerIndex,
        namespace: &TrackNamespace,
        way: Way,
        told: Option<Announcement>,
        watch: Option<RequestId>,
    ) {
        let parameters = way.parameters();
        if let Some(request) = watch {
            let Some(Owner::NamespaceWatch(prefix)) = self.peers[peer.0].requests.get(&request)
            else {
                return;
            };
            let Some(suffix) = namespace.strip_prefix(prefix) else { return };
            if let Some(session) = self.session(peer) {
                session.namespace(request, suffix, parameters);
            }
            self.note_announced(peer, namespace, Announcement { request, way });
            return;
        }
        let Some(session) = self.session(peer) else { return };
        if let Some(told) = &told
            && session.update(told.request, parameters.clone()).is_ok()
        {
            let request = told.request;
            self.note_announced(peer, namespace, Announcement { request, way });
            return;
        }
        // It cannot be updated just now: it is told anew.
        if let Some(told) = told {
            self.withdraw(peer, namespace, &told);
        }
        let Some(session) = self.session(peer) else { return };
        if let Ok(request) = session.publish_namespace(namespace.clone(), parameters) {
            self.own(RequestKey { peer, request }, Owner::NamespaceUpstream(namespace.clone()));
            self.note_announced(peer, namespace, Announcement { request, way });
        }
    }

    fn note_announced(
        &mut self,
        peer: PeerIndex,
        namespace: &TrackNamespace,
        announcement: Announcement,
    ) {
        self.peers[peer.0].announced.insert(namespace.clone(), announcement);
    }

    fn withdraw(&mut self, peer: PeerIndex, namespace: &TrackNamespace, told: &Announcement) {
        self.peers[peer.0].announced.remove(namespace);
        let request = told.request;
        let watched = match self.peers[peer.0].requests.get(&request) {
            Some(Owner::NamespaceWatch(prefix)) => Some(namespace.strip_prefix(prefix)),
            _ => None,
        };
        let Some(session) = self.session(peer) else { return };
        match watched {
            Some(Some(suffix)) => session.namespace_done(request, suffix),
            Some(None) => {}
            None => {
                session.cancel(request, ResetCode::CANCELLED);
                self.disown(RequestKey { peer, request });
            }
        }
    }

    /// The other relay has ended or refused our PUBLISH_NAMESPACE: it knows of nothing.
    pub(super) fn announcement_ended(&mut self, key: RequestKey, namespace: &TrackNamespace) {
        let announced = &mut self.peers[key.peer.0].announced;
        if announced.get(namespace).is_some_and(|told| told.request == key.request) {
            announced.remove(namespace);
        }
    }

    /// Another relay's SUBSCRIBE_NAMESPACE goes on under another prefix: withdraws what it was
    /// told.
    pub(super) fn withdraw_told_to(&mut self, watch: RequestKey) {
        let told: Vec<(TrackNamespace, Announcement)> = self.peers[watch.peer.0]
            .announced
            .iter()
            .filter(|(_, told)| told.request == watch.request)
            .map(|(namespace, told)| (namespace.clone(), told.clone()))
            .collect();
        for (namespace, told) in told {
            self.withdraw(watch.peer, &namespace, &told);
        }
    }

    /// Another relay's SUBSCRIBE_NAMESPACE has ended, and with it what it was told.
    pub(super) fn forget_told_to(&mut self, watch: RequestKey) {
        self.peers[watch.peer.0].announced.retain(|_, told| told.request != watch.request);
    }

    /// A namespace that another relay tells of.
    pub(super) fn upstream_namespace(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        parameters: &Parameters,
        now: Instant,
    ) {
        if is_reserved(namespace) {
            return;
        }
        let is_known = self.namespaces.routes(namespace).iter().any(|route| route.key == key);
        let route = self.route_from(key, parameters);
        let Some(peer) = self.peers.get_mut(key.peer.0) else { return };
        match (is_known, route.is_some()) {
            (false, false) => return,
            (false, true)
                if (!peer.is_shard()
                    && self.config.upstream_namespaces_max <= peer.namespace_count)
                    || self.config.namespaces_max <= self.namespaces.published() =>
            {
                // Counted, and not logged: a line for each would be a flood of its own.
                self.service.counters.namespaces_ignored_total += 1;
                return;
            }
            (false, true) => peer.namespace_count += 1,
            (true, false) => peer.namespace_count = peer.namespace_count.saturating_sub(1),
            (true, true) => {}
        }
        self.set_route(key, namespace, route, now);
    }

    pub(super) fn upstream_namespace_done(
        &mut self,
        key: RequestKey,
        namespace: &TrackNamespace,
        now: Instant,
    ) {
        let is_known = self.namespaces.routes(namespace).iter().any(|route| route.key == key);
        if !is_known {
            return;
        }
        if let Some(peer) = self.peers.get_mut(key.peer.0) {
            peer.namespace_count = peer.namespace_count.saturating_sub(1);
        }
        self.set_route(key, namespace, None, now);
    }

    /// A relay's watch has ended: so has every namespace that it told of.
    pub(super) fn forget_namespaces_of(&mut self, key: RequestKey, now: Instant) {
        let root = TrackNamespace::default();
        for namespace in self.namespaces.published_under(&root, usize::MAX) {
            self.upstream_namespace_done(key, &namespace, now);
        }
    }
}

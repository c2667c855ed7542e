//! PUBLISH: of sessions to us, and of ours to who wants every track under a prefix.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::RequestCode,
    message::Publish,
    parameter::{Parameter, Parameters},
    property::Properties,
};

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey},
    peer::Owner,
    subscribe::Terms,
    track::{TrackIndex, Upstream},
};

impl Relay {
    pub(super) fn publish_received(&mut self, key: RequestKey, body: Publish, now: Instant) {
        if body.properties.unknown_mandatory_track_property().is_some() {
            let reason = "mandatory track property not understood";
            self.reject(key, RequestCode::UNSUPPORTED_EXTENSION, reason);
            return;
        }
        let Some(index) = self.track_for(key, &body.track) else { return };
        self.tracks[index.0].upstreams.push(Upstream {
            key,
            by_publish: true,
            established: false,
            alias: Some(body.track_alias),
            forward: body.parameters.forward().unwrap_or(true),
            deadline: now,
        });
        self.own(key, Owner::Upstream(index));
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, Parameters::default(), Properties::default());
        }
        let largest = body.parameters.largest_object();
        let terms = Terms { alias: body.track_alias, largest, properties: body.properties };
        self.establish_upstream(index, key, terms, now);
        self.want_forward(index, now);
        let interested = self.namespaces.interested_in(body.track.namespace(), Interest::Tracks);
        for watcher in interested.into_iter().filter(|watcher| watcher.peer != key.peer) {
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
        let Some(watch) = self.track_watches.get(&watcher).cloned() else { return };
        let mut parameters = Parameters::default();
        if let Some(largest) = track.largest {
            parameters.push(Parameter::LargestObject(largest));
        }
        let forward = watch.forward().unwrap_or(true);
        if !forward {
            parameters.push(Parameter::Forward(false));
        }
        let (name, alias) = (track.name.clone(), track.alias);
        let properties = track.properties_for(&watch);
        let Some(session) = self.session(watcher.peer) else { return };
        if let Ok(request) = session.publish(name, alias, parameters, properties) {
            let key = RequestKey { peer: watcher.peer, request };
            self.add_subscriber(index, key, &watch, now);
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
        self.want_forward(index, now);
    }
}

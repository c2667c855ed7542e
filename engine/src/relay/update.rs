//! Changes of what is subscribed to: from subscribers, and told by publishers.

use std::time::Instant;

use aip_codec::moqt::{
    id::RequestId,
    message::{PublishStateNotify, RequestError, RequestOk},
    parameter::{Parameter, Parameters},
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::Owner,
    track::{FillKey, TrackIndex},
};
use crate::session::subscription_range;

impl Relay {
    pub(super) fn update_received(
        &mut self,
        key: RequestKey,
        update: RequestId,
        parameters: &Parameters,
        now: Instant,
    ) {
        match self.peers[key.peer.0].requests.get(&key.request).cloned() {
            Some(Owner::Subscriber { track, subscriber }) => {
                self.update_subscriber((track, subscriber), key, update, parameters, now);
                return;
            }
            Some(Owner::TracksWatch(prefix)) => {
                self.update_tracks_watch(key, &prefix, parameters, now)
            }
            Some(Owner::NamespaceWatch(prefix)) => {
                self.update_namespace_watch(key, &prefix, parameters);
            }
            _ => {}
        }
        if let Some(session) = self.session(key.peer) {
            session.accept_update(key.request, Parameters::default());
        }
    }

    fn update_subscriber(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        key: RequestKey,
        update: RequestId,
        parameters: &Parameters,
        now: Instant,
    ) {
        let forward = self.change_subscriber((index, subscriber), parameters);
        let largest = self.tracks[index.0].largest;
        let mut answer = Parameters::default();
        if let Some(largest) = largest {
            answer.push(Parameter::LargestObject(largest));
        }
        if let Some(session) = self.session(key.peer) {
            session.accept_update(key.request, answer);
        }
        self.want_forward(index, now);
        if let (true, Some(fill)) = (forward, parameters.fill_parameters()) {
            let filled_by = FillKey { owner: key, asked_by: update };
            self.begin_fill(index, filled_by, fill, parameters, now);
        }
    }

    /// Changes what a subscriber wants; whether it wants objects at all.
    pub(super) fn change_subscriber(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        parameters: &Parameters,
    ) -> bool {
        let track = &mut self.tracks[index.0];
        let largest = track.largest;
        let Some(entry) = track.subscribers.get_mut(subscriber) else { return false };
        if let Some(priority) = parameters.subscriber_priority() {
            entry.priority = priority;
            if let Some(peer) = self.peers.get_mut(entry.key.peer.0) {
                peer.session.set_subscriber_priority(entry.key.request, priority);
                super::touch(&mut self.touched, peer, entry.key.peer);
            }
        }
        entry.timeouts = entry.timeouts.updated(parameters);
        if let Some(filter) = parameters.location_filter() {
            (entry.start, entry.end) = subscription_range(filter, largest);
        }
        if let Some(forward) = parameters.forward() {
            if forward && !entry.forward {
                entry.joined_at = largest;
            }
            entry.forward = forward;
        }
        let forward = entry.forward;
        self.pass_on_new_group(index, parameters);
        forward
    }

    /// Asks the publishers for a new group, if a subscriber wants one that is not on its way.
    pub(super) fn pass_on_new_group(&mut self, index: TrackIndex, parameters: &Parameters) {
        let Some(group) = parameters.new_group_request() else { return };
        let track = &mut self.tracks[index.0];
        if !track.wants_new_group(group) {
            return;
        }
        let established = track.upstreams.iter().filter(|upstream| upstream.established);
        let keys: Vec<RequestKey> = established.map(|upstream| upstream.key).collect();
        for key in keys {
            let Some(session) = self.session(key.peer) else { continue };
            let parameters = Parameters::default().with(Parameter::NewGroupRequest(group));
            if let Err(error) = session.update(key.request, parameters) {
                tracing::debug!(%error, "publisher cannot be asked for a new group");
            }
        }
    }

    pub(super) fn update_answered(
        &mut self,
        key: RequestKey,
        result: Result<RequestOk, RequestError>,
        _now: Instant,
    ) {
        let Some(Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request) else {
            return;
        };
        match result {
            Ok(ok) => {
                if let Some(largest) = ok.parameters.largest_object() {
                    self.tracks[index.0].note_largest(largest);
                }
            }
            Err(error) => tracing::debug!(code = %error.code, "publisher refused an update"),
        }
    }

    pub(super) fn state_notified(&mut self, key: RequestKey, body: &PublishStateNotify) {
        let Some(Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request) else {
            return;
        };
        if let Some(largest) = body.parameters.largest_object() {
            self.tracks[index.0].note_largest(largest);
        }
    }
}

//! Changes of what is subscribed to: from subscribers, and told by publishers.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::RequestCode,
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
                let has_changed = self.update_tracks_watch(key, &prefix, parameters, now);
                if !has_changed {
                    self.refuse_filters(key);
                    return;
                }
            }
            Some(Owner::NamespaceWatch(prefix)) => {
                self.update_namespace_watch(key, &prefix, parameters);
                return;
            }
            Some(Owner::Namespace(namespace)) => {
                self.update_published_namespace(key, &namespace, parameters, now);
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
        if !self.change_subscriber((index, subscriber), parameters) {
            self.refuse_filters(key);
            return;
        }
        if parameters.hops().is_some() {
            self.note_hops((index, subscriber), key, parameters);
        }
        let largest = self.tracks[index.0].largest;
        let mut answer = Parameters::default();
        if let Some(largest) = largest {
            answer.push(Parameter::LargestObject(largest));
        }
        if let Some(session) = self.session(key.peer) {
            session.accept_update(key.request, answer);
        }
        self.want_forward(index, now);
        if let Some(fill) = parameters.fill_parameters() {
            let filled_by = FillKey { owner: key, asked_by: update };
            self.begin_fill((index, subscriber), filled_by, fill, now);
        }
    }

    /// An update makes filters that are none, or too many with those that stand.
    fn refuse_filters(&mut self, key: RequestKey) {
        if let Some(session) = self.session(key.peer) {
            let code = RequestCode::INVALID_FILTER;
            session.reject_update(key.request, code, code.name());
        }
    }

    /// Changes what a subscriber wants; false if it cannot be had.
    pub(super) fn change_subscriber(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        parameters: &Parameters,
    ) -> bool {
        let ranges_max = self.config.session.filter_ranges_max;
        let track = &mut self.tracks[index.0];
        let largest = track.largest;
        let Some(entry) = track.subscribers.get_mut(subscriber) else { return false };
        let was_paused = !entry.wish.forward;
        if !entry.wish.update(parameters, ranges_max) {
            return false;
        }
        if parameters.subscriber_priority().is_some()
            && let Some(peer) = self.peers.get_mut(entry.key.peer.0)
        {
            peer.session.set_subscriber_priority(entry.key.request, entry.wish.priority);
            super::touch(&mut self.touched, peer, entry.key.peer);
        }
        if parameters.location_filter().is_some() {
            (entry.start, entry.end) = subscription_range(entry.wish.filter, largest);
        }
        if was_paused && entry.wish.forward {
            entry.joined_at = largest;
        }
        self.pass_on_new_group(index, parameters);
        true
    }

    /// Asks the publishers for a new group, if a subscriber wants one that is not on its way.
    pub(super) fn pass_on_new_group(&mut self, index: TrackIndex, parameters: &Parameters) {
        let Some(group) = parameters.new_group_request() else { return };
        let track = &mut self.tracks[index.0];
        let before = track.new_group;
        if !track.wants_new_group(group) {
            return;
        }
        let established = track.upstreams.iter().filter(|upstream| upstream.established);
        let keys: Vec<RequestKey> = established.map(|upstream| upstream.key).collect();
        let mut is_asked = false;
        for key in keys {
            let Some(session) = self.session(key.peer) else { continue };
            let parameters = Parameters::default().with(Parameter::NewGroupRequest(group));
            match session.update(key.request, parameters) {
                Ok(_) => is_asked = true,
                Err(error) => tracing::debug!(%error, "publisher cannot be asked for a new group"),
            }
        }
        if !is_asked {
            self.tracks[index.0].new_group = before;
        }
    }

    pub(super) fn update_answered(
        &mut self,
        key: RequestKey,
        result: Result<RequestOk, RequestError>,
        now: Instant,
    ) {
        let Some(Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request) else {
            return;
        };
        let index = *index;
        match result {
            Ok(ok) => {
                if let Some(largest) = ok.parameters.largest_object() {
                    self.tracks[index.0].note_largest(largest);
                }
                self.want_forward(index, now);
            }
            // PUBLISH_DONE follows.
            Err(error) => tracing::debug!(code = %error.code, "publisher refused an update"),
        }
    }

    /// A publisher tells of a change. Subscribers that would not learn of it by objects are told.
    pub(super) fn state_notified(
        &mut self,
        key: RequestKey,
        body: &PublishStateNotify,
        now: Instant,
    ) {
        let Some(Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request) else {
            return;
        };
        let index = *index;
        let track = &mut self.tracks[index.0];
        if let (Some(forward), Some(upstream)) =
            (body.parameters.forward(), track.upstream_mut(key))
        {
            upstream.forward = forward;
        }
        let before = track.largest;
        if let Some(largest) = body.parameters.largest_object() {
            track.note_largest(largest);
        }
        if let Some(largest) = track.largest.filter(|_| before != track.largest) {
            let subscribers = track.subscribers.iter();
            let keys: Vec<RequestKey> = subscribers.map(|(_, entry)| entry.key).collect();
            for key in keys {
                let parameters = Parameters::default().with(Parameter::LargestObject(largest));
                if let Some(session) = self.session(key.peer) {
                    session.state_notify(key.request, parameters);
                }
            }
        }
        // Somebody may want what the publisher has paused.
        self.want_forward(index, now);
    }
}

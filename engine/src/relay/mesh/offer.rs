//! A track that comes to be published in one shard is offered to the others at once.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::RequestCode,
    message::Publish,
    parameter::{Parameter, Parameters},
    property::Properties,
};

use super::super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
    subscribe::Terms,
    track::{TrackIndex, Upstream, Wish},
};

impl Relay {
    /// A track is published to this shard: the others are offered it, so that whoever has it there
    /// already misses nothing of what its publisher sends at once.
    pub(in crate::relay) fn offer_to_shards(&mut self, index: TrackIndex, now: Instant) {
        let shards: Vec<PeerIndex> = self.mesh.shards.keys().copied().collect();
        for peer in shards {
            let Some(track) = self.tracks.get(index.0) else { return };
            let (name, alias, largest) = (track.name.clone(), track.alias, track.largest);
            let has_it = track.has_downstream_in(peer);
            let properties = track.properties.clone();
            let Some(session) = self.session(peer).filter(|it| !has_it && it.is_established())
            else {
                continue;
            };
            let parameters = match largest {
                Some(largest) => Parameters::default().with(Parameter::LargestObject(largest)),
                None => Parameters::default(),
            };
            if let Ok(request) = session.publish(name, alias, parameters, properties) {
                let key = RequestKey { peer, request };
                self.peers[peer.0].publication_count += 1;
                self.add_subscriber(index, key, Wish::of(&Parameters::default()), now);
            }
        }
    }

    /// Another shard offers a track that has just been published to it: taken if anybody here has
    /// it, or waits for it. Whoever comes later subscribes.
    pub(in crate::relay) fn offered_by_shard(
        &mut self,
        key: RequestKey,
        body: Publish,
        now: Instant,
    ) {
        let known = self.by_name.get(&body.track).copied();
        let wanted = known.filter(|index| {
            let mut upstreams = self.tracks[index.0].upstreams.iter();
            let has_it = upstreams.any(|it| it.key.peer == key.peer && it.established);
            !has_it && self.has_own_demand(&self.tracks[index.0])
        });
        let Some(index) = wanted else {
            if let Some(session) = self.session(key.peer) {
                session.reject_with(key.request, RequestCode::UNINTERESTED, "nobody here has it");
            }
            return;
        };
        self.tracks[index.0].upstreams.push(Upstream {
            key,
            by_publish: false,
            is_shard: true,
            established: false,
            is_heard: true,
            alias: Some(body.track_alias),
            forward: true,
            told_hops: None,
            deadline: now,
            is_leaving: false,
        });
        self.update_rendezvous(index);
        self.own(key, Owner::Upstream(index));
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, Parameters::default(), Properties::default());
        }
        self.below_changed.push_back((index, self.tracks[index.0].alias));
        let largest = body.parameters.largest_object();
        let terms = Terms { alias: body.track_alias, largest, properties: body.properties };
        self.establish_upstream(index, key, terms, now);
    }

    /// Another shard refuses a SUBSCRIBE of ours, since it has offered the track.
    pub(in crate::relay) fn already_offered(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.upstreams.retain(|upstream| upstream.key != key);
        self.update_rendezvous(index);
        let Some(track) = self.tracks.get(index.0) else { return };
        // The offer may have been refused since, by who did not want it then.
        if !track.has_upstream_in(key.peer) && self.has_own_demand(track) {
            self.ask_publishers(index, None, now);
        }
        self.go_on_without(index, RequestCode::DOES_NOT_EXIST, now);
    }
}

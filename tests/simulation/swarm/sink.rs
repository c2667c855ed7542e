//! Sinks: bare sessions that subscribe to the source's tracks, or take what is published to them, and
//! fetch of them.

use std::collections::BTreeMap;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        location::Location,
        message::Publish,
        name::TrackNamespace,
        parameter::{GroupOrder, Parameter, Parameters},
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::{
    checker::{Fetched, SubscriptionKey},
    sim::{NodeId, peer::Peer},
};

use super::{Place, Swarm, name_of, namespace_of, source, track_of};

pub(super) struct Sink {
    pub(super) place: Place,
    /// Subscriptions on this connection, and their tracks.
    subscriptions: BTreeMap<RequestId, u64>,
    /// The subscription that an alias is heard for.
    aliases: BTreeMap<TrackAlias, RequestId>,
    /// Its SUBSCRIBE_TRACKS, if it has one.
    watch: Option<RequestId>,
    /// Whether it had one on this connection. It then takes what is published to it, and subscribes
    /// to nothing itself, also not later, when a PUBLISH may still be under way: one alias is heard
    /// for one subscription.
    has_watched: bool,
    /// The connection that these belong to.
    connection: u64,
}

impl Sink {
    pub(super) fn peer() -> Peer {
        Peer::default()
    }

    pub(super) const fn new(place: Place) -> Self {
        Self {
            place,
            subscriptions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            watch: None,
            has_watched: false,
            connection: 0,
        }
    }

    const fn key(&self, request: RequestId) -> SubscriptionKey {
        (self.place.node.0, self.connection, request.0)
    }
}

impl Swarm {
    fn any_sink(&mut self) -> (usize, NodeId) {
        self.pump_sinks();
        let index = self.random.index(self.sinks.len());
        (index, self.sinks[index].place.node)
    }

    fn any_raw_track(&mut self) -> u64 {
        source::TRACKS.start + self.random.below(source::TRACKS.end - source::TRACKS.start)
    }

    pub(super) fn sink_subscribes(&mut self) {
        let track = self.any_raw_track();
        let (index, node) = self.any_sink();
        let sink = &self.sinks[index];
        if sink.has_watched || sink.subscriptions.values().any(|other| *other == track) {
            return;
        }
        let patience = self.random.chance(500);
        let request = self.world.with(node, |peer: &mut Peer, _| {
            let parameters = if patience {
                Parameters::default().with(Parameter::RendezvousTimeout(3_000))
            } else {
                Parameters::default()
            };
            let ready = peer.is_connected() && peer.session().is_established();
            ready.then(|| peer.session().subscribe(name_of(track), parameters).ok()).flatten()
        });
        let Some(request) = request else { return };
        self.sinks[index].subscriptions.insert(request, track);
        self.objects.subscribed(self.sinks[index].key(request), track);
    }

    /// Wants every track of the source's, or every track there is.
    pub(super) fn sink_watches(&mut self) {
        let (index, node) = self.any_sink();
        let is_wide = self.random.chance(300);
        let sink = &self.sinks[index];
        if sink.watch.is_some() || !sink.subscriptions.is_empty() {
            return;
        }
        let prefix = match is_wide {
            true => TrackNamespace::default(),
            false => namespace_of(source::TRACKS.start),
        };
        let request = self.world.with(node, |peer: &mut Peer, _| {
            let ready = peer.is_connected() && peer.session().is_established();
            let ask = || peer.session().subscribe_tracks(prefix, Parameters::default()).ok();
            ready.then(ask).flatten()
        });
        self.sinks[index].watch = request;
        self.sinks[index].has_watched |= request.is_some();
    }

    /// A track is published to a sink, which takes it or not.
    fn sink_published(&mut self, index: usize, request: RequestId, body: &Publish) {
        let takes = !self.random.chance(200);
        let node = self.sinks[index].place.node;
        self.world.with(node, |peer: &mut Peer, _| match (peer.is_connected(), takes) {
            (true, true) => peer.accept(request),
            (true, false) => peer.session().reject_with(request, RequestCode::UNINTERESTED, ""),
            (false, _) => {}
        });
        if !takes {
            return;
        }
        let (sink, track) = (&mut self.sinks[index], track_of(&body.track));
        sink.subscriptions.insert(request, track);
        sink.aliases.insert(body.track_alias, request);
        let key = sink.key(request);
        self.objects.subscribed(key, track);
        self.objects.accepted(key, self.world.elapsed());
    }

    pub(super) fn sink_cancels(&mut self) {
        let (index, node) = self.any_sink();
        let connection = self.sinks[index].connection;
        let fetches = self.fetches.live(node.0, connection);
        let subscriptions: Vec<RequestId> =
            self.sinks[index].subscriptions.keys().copied().collect();
        let requests = fetches.into_iter().map(RequestId).chain(subscriptions);
        let all: Vec<RequestId> = requests.chain(self.sinks[index].watch).collect();
        if all.is_empty() {
            return;
        }
        let request = all[self.random.index(all.len())];
        self.world.with(node, |peer: &mut Peer, _| {
            if peer.is_connected() {
                peer.session().cancel(request, ResetCode::CANCELLED);
            }
        });
        self.request_over(index, request);
    }

    fn request_over(&mut self, index: usize, request: RequestId) {
        let sink = &mut self.sinks[index];
        let key = sink.key(request);
        sink.watch = sink.watch.filter(|watch| *watch != request);
        sink.subscriptions.remove(&request);
        sink.aliases.retain(|_, other| *other != request);
        self.objects.ended(key);
        self.fetches.ended(key);
    }

    pub(super) fn sink_fetches(&mut self) {
        let track = self.any_raw_track();
        let (index, node) = self.any_sink();
        let Some(largest) = self.objects.largest(track) else { return };
        let start = Location::new(self.random.between(0, largest.group.0), self.random.below(4));
        let end_group = self.random.between(start.group.0, largest.group.0 + 1);
        let end_object =
            if self.random.chance(300) { u64::MAX } else { start.object.0 + self.random.below(6) };
        let end = Location::new(end_group, end_object);
        let order =
            if self.random.chance(300) { GroupOrder::Descending } else { GroupOrder::Ascending };
        let patience = self.random.chance(200).then(|| self.random.between(0, 100));
        let request = self.world.with(node, |peer: &mut Peer, _| {
            if !peer.is_connected() || !peer.session().is_established() {
                return None;
            }
            let mut parameters = Parameters::default();
            if order == GroupOrder::Descending {
                parameters.push(Parameter::GroupOrder(order));
            }
            if let Some(patience) = patience {
                parameters.push(Parameter::FillTimeout(patience));
            }
            peer.session().fetch_range(name_of(track), start, end, parameters).ok()
        });
        let Some(request) = request else { return };
        let fetched = Fetched::new(track, (start, end), order, self.world.elapsed());
        self.fetches.asked(self.sinks[index].key(request), fetched);
    }

    pub(super) fn sink_stalls(&mut self, stalled: bool) {
        let indices: Vec<usize> = if stalled {
            vec![self.random.index(self.sinks.len())]
        } else {
            (0..self.sinks.len()).collect()
        };
        for index in indices {
            let node = self.sinks[index].place.node;
            self.world.with(node, |peer: &mut Peer, _| peer.stall(stalled));
        }
    }

    pub(super) fn pump_sinks(&mut self) {
        for index in 0..self.sinks.len() {
            let node = self.sinks[index].place.node;
            let (events, unnamed, connected) = self.world.with(node, |peer: &mut Peer, _| {
                (peer.take(), peer.take_unnamed_resets(), peer.is_connected())
            });
            for event in events {
                self.sink_told(index, event);
            }
            self.objects.unnamed_resets((node.0, self.sinks[index].connection), unnamed);
            let is_new = self.sinks[index].connection < self.sinks[index].place.connections;
            if !connected || is_new {
                self.sink_lost(index);
                self.sinks[index].connection = self.sinks[index].place.connections;
            }
        }
    }

    /// The connection is gone, and all that was asked on it.
    fn sink_lost(&mut self, index: usize) {
        let node = self.sinks[index].place.node.0;
        let connection = self.sinks[index].connection;
        self.sinks[index].watch = None;
        self.sinks[index].has_watched = false;
        let mut requests = self.fetches.live(node, connection);
        requests.extend(self.sinks[index].subscriptions.keys().map(|request| request.0));
        for request in requests {
            self.request_over(index, RequestId(request));
        }
    }

    fn sink_told(&mut self, index: usize, event: Event) {
        let sink = &self.sinks[index];
        let (node, connection) = (sink.place.node, sink.connection);
        let at = |stream| (node.0, connection, stream);
        let key = |request| sink.key(request);
        match event {
            Event::Request { request, body: Request::Publish(body), .. } => {
                self.sink_published(index, request, &body);
            }
            Event::Response { request, body } => self.sink_answered(index, request, &body),
            Event::PublishDone { request, body } => {
                assert_ne!(body.code, PublishDoneCode::MALFORMED_TRACK, "nothing is malformed");
                self.request_over(index, request);
            }
            Event::Ended { request }
                if sink.subscriptions.contains_key(&request) || sink.watch == Some(request) =>
            {
                self.request_over(index, request);
            }
            Event::Ended { request } => self.fetches.ended(key(request)),
            Event::SubgroupOpened { stream, header } => {
                if let Some(request) = sink.aliases.get(&header.track_alias) {
                    self.objects.opened(at(stream), key(*request), &header);
                }
            }
            Event::Object { stream, object } => {
                let number = object.header.object.0;
                self.objects.object(at(stream), number, &object.payload, object.last);
            }
            Event::Payload { stream, bytes, last } => {
                self.objects.more(at(stream), &bytes, last);
            }
            Event::SubgroupEnded { stream, end } => self.objects.closed(at(stream), end),
            Event::FetchObject { request, object, payload, last } => {
                let key = key(request);
                self.fetches.object(key, object.location, &payload, last, &self.objects);
            }
            Event::FetchPayload { request, bytes, last } => {
                self.fetches.more(key(request), &bytes, last, &self.objects);
            }
            Event::FetchRange { request, kind, end } => {
                self.fetches.range(key(request), kind, end);
            }
            Event::FetchEnded { request, end } => {
                self.fetches.data_ended(key(request), end, &self.objects);
            }
            _ => {}
        }
    }

    fn sink_answered(&mut self, index: usize, request: RequestId, body: &Response) {
        let key = self.sinks[index].key(request);
        match body {
            Response::SubscribeOk(ok) => {
                self.sinks[index].aliases.insert(ok.track_alias, request);
                self.objects.accepted(key, self.world.elapsed());
            }
            Response::FetchOk(ok) => {
                let node = self.sinks[index].place.node;
                let version = self.world.with(node, |peer: &mut Peer, _| peer.session().version());
                let end = if version < Version::Draft20 {
                    Location::new(ok.end.group.0, ok.end.object.0.wrapping_sub(1))
                } else {
                    ok.end
                };
                self.fetches.answered(key, end);
            }
            Response::Error(_) => self.request_over(index, request),
            Response::Ok(_) => {}
        }
    }
}

//! What a relay must and must not do, seen by bare sessions on its sides.

mod cache;
mod chain;
mod fetch;
mod filters;
mod goaway;
mod interest;
mod mesh;
mod namespaces;
mod objects;
mod offers;
mod overload;
mod pass_on;
mod properties;
mod publish;
mod rendezvous;
mod subscribe;

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        id::RequestId,
        location::Location,
        message::FetchTarget,
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
    },
};
use aip_engine::{
    relay::Config,
    session::{Event, Request, Response},
};
use aip_tests::sim::{
    LinkId, NodeId, Weather, World, heard,
    peer::{FetchItem, Peer, Subgroup, Writer},
    shards::Shards,
};
use bytes::Bytes;

/// Drafts of the publisher and of the subscribers.
const DRAFTS: [(Version, Version); 6] = [
    (Version::Draft22, Version::Draft22),
    (Version::Draft20, Version::Draft20),
    (Version::Draft18, Version::Draft18),
    (Version::Draft18, Version::Draft22),
    (Version::Draft22, Version::Draft18),
    (Version::Draft20, Version::Draft18),
];

fn namespace(path: &str) -> TrackNamespace {
    TrackNamespace::new(path.split('/').filter(|field| !field.is_empty())).unwrap()
}

fn track(name: &str) -> FullTrackName {
    FullTrackName::new(namespace("live/room"), Bytes::from(name.to_owned())).unwrap()
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

fn none() -> Parameters {
    Parameters::default()
}

fn with(parameter: Parameter) -> Parameters {
    none().with(parameter)
}

fn at(group: u64, object: u64) -> Location {
    Location::new(group, object)
}

fn payload(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn objects(texts: &[&str]) -> Vec<(u64, Bytes)> {
    (0..).zip(texts.iter().map(|text| payload(text))).collect()
}

/// A relay and whoever is connected to it.
struct Stage {
    world: World,
    relay: NodeId,
}

impl Stage {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut world = World::new(1, Weather::CALM);
        let relay = world.add(Shards::new(&config, super::SHARDS));
        Self { world, relay }
    }

    fn peer(&mut self, version: Version) -> NodeId {
        self.peer_with_link(version).0
    }

    fn peer_with_link(&mut self, version: Version) -> (NodeId, LinkId) {
        let relay = self.relay;
        self.peer_at(relay, version)
    }

    fn peer_at(&mut self, relay: NodeId, version: Version) -> (NodeId, LinkId) {
        let peer = self.world.add(Peer::default());
        let link = self.world.connect(peer, relay, version, None);
        self.run(20);
        self.take(peer);
        (peer, link)
    }

    /// A peer whose session comes to one shard of the relay.
    fn peer_in(&mut self, shard: usize, version: Version) -> (NodeId, LinkId) {
        self.peer_in_shard_of(self.relay, shard, version)
    }

    /// The same, at whatever relay.
    fn peer_in_shard_of(
        &mut self,
        relay: NodeId,
        shard: usize,
        version: Version,
    ) -> (NodeId, LinkId) {
        self.world.with(relay, |relay: &mut Shards, _| relay.send_next_to(shard));
        self.peer_at(relay, version)
    }

    fn run(&mut self, milliseconds: u64) {
        self.world.run(Duration::from_millis(milliseconds));
    }

    /// Tells a peer something and lets all come of it that does at once.
    fn tell<R>(&mut self, peer: NodeId, tell: impl FnOnce(&mut Peer) -> R) -> R {
        let result = self.world.with(peer, |peer: &mut Peer, _| tell(peer));
        self.run(20);
        result
    }

    fn relay<R>(&mut self, look: impl FnOnce(&mut Shards) -> R) -> R {
        let relay = self.relay;
        self.world.with(relay, |relay: &mut Shards, _| look(relay))
    }

    fn counts(&mut self) -> (usize, usize, usize) {
        self.relay(|relay| relay.counts())
    }

    fn take(&mut self, peer: NodeId) -> Vec<Event> {
        self.world.with(peer, |peer: &mut Peer, _| peer.take())
    }

    fn closed(&mut self, peer: NodeId) -> bool {
        self.world.with(peer, |peer: &mut Peer, _| !peer.is_connected())
    }

    /// The one request that a peer has got.
    #[track_caller]
    fn request(&mut self, peer: NodeId) -> (RequestId, Request) {
        let mut requests = self.requests(peer);
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    fn requests(&mut self, peer: NodeId) -> Vec<(RequestId, Request)> {
        self.world.with(peer, |peer: &mut Peer, _| peer.take_requests())
    }

    #[track_caller]
    fn response(&mut self, peer: NodeId, request: RequestId) -> Response {
        let response = self.world.with(peer, |peer: &mut Peer, _| peer.take_response(request));
        response.unwrap_or_else(|| panic!("no answer to {request}: {:?}", self.take(peer)))
    }

    #[track_caller]
    fn refusal(&mut self, peer: NodeId, request: RequestId) -> &'static str {
        match self.response(peer, request) {
            Response::Error(error) => error.code.name(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A peer that publishes a namespace.
    fn publisher(&mut self, version: Version, path: &str) -> NodeId {
        let peer = self.peer(version);
        self.announce(peer, path);
        peer
    }

    fn announce(&mut self, peer: NodeId, path: &str) -> RequestId {
        let path = namespace(path);
        let request =
            self.tell(peer, |peer| peer.session().publish_namespace(path, none()).unwrap());
        assert!(matches!(self.response(peer, request), Response::Ok(_)));
        request
    }

    fn subscribe(&mut self, peer: NodeId, name: &str, parameters: Parameters) -> RequestId {
        self.tell(peer, |peer| peer.session().subscribe(track(name), parameters).unwrap())
    }

    /// A publisher and a subscriber of track `t`, through the relay.
    fn live(drafts: (Version, Version), parameters: Parameters) -> Live {
        Self::live_with(Config::default(), drafts, parameters)
    }

    fn live_with(config: Config, drafts: (Version, Version), parameters: Parameters) -> Live {
        let mut stage = Self::with(config);
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", parameters);
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let response = stage.response(subscriber, subscription);
        assert!(matches!(response, Response::SubscribeOk(_)), "{response:?}");
        Live { stage, publisher, upstream, subscriber, subscription }
    }

    /// A further subscriber, established.
    fn join(&mut self, version: Version, parameters: Parameters) -> (NodeId, RequestId) {
        let subscriber = self.peer(version);
        let subscription = self.subscribe(subscriber, "t", parameters);
        let response = self.response(subscriber, subscription);
        assert!(matches!(response, Response::SubscribeOk(_)), "{response:?}");
        (subscriber, subscription)
    }

    fn lines(&mut self, peer: NodeId) -> Vec<String> {
        heard::lines(&self.take(peer))
    }

    /// A FETCH as the session's draft has it.
    fn fetch(
        &mut self,
        peer: NodeId,
        start: Location,
        end: Location,
        parameters: Parameters,
    ) -> RequestId {
        self.tell(peer, |peer| {
            peer.session().fetch_range(track("t"), start, end, parameters).unwrap()
        })
    }

    #[track_caller]
    fn fetched(&mut self, peer: NodeId, fetch: RequestId) -> String {
        heard::fetched_line(&self.take(peer), fetch)
    }

    /// The range of the one FETCH that a publisher has got.
    #[track_caller]
    fn fetch_request(&mut self, peer: NodeId) -> (RequestId, String, GroupOrder) {
        let (request, body) = self.request(peer);
        let Request::Fetch(body) = body else { panic!("{body:?}") };
        let order = body.parameters.group_order().unwrap_or_default();
        let range = match body.target {
            FetchTarget::Standalone { start, end, .. } => format!("{start}..{end}"),
            FetchTarget::Track(_) => format!("{:?}", body.parameters.location_filter().unwrap()),
            FetchTarget::Joining { .. } => panic!("a joining fetch"),
        };
        (request, range, order)
    }

    /// Answers a FETCH.
    fn answer_fetch(&mut self, peer: NodeId, fetch: RequestId, items: &[FetchItem]) {
        self.answer_fetch_in(peer, fetch, GroupOrder::Ascending, items);
    }

    fn answer_fetch_in(
        &mut self,
        peer: NodeId,
        fetch: RequestId,
        order: GroupOrder,
        items: &[FetchItem],
    ) {
        self.tell(peer, |peer| {
            let (end, properties) = (at(u64::MAX / 2, 1), Properties::default());
            peer.session().accept_fetch(fetch, false, end, properties);
            peer.send_fetch(fetch, order, items);
        });
    }
}

impl Drop for Stage {
    /// Whatever a test has looked at, no relay contradicts itself at its end.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.world.contradiction(), None);
        }
    }
}

/// See `Stage::live`.
struct Live {
    stage: Stage,
    publisher: NodeId,
    upstream: RequestId,
    subscriber: NodeId,
    subscription: RequestId,
}

impl Live {
    /// Publishes a whole group.
    fn group(&mut self, group: u64, texts: &[&str]) {
        self.subgroup(&Subgroup::new(7, group), &objects(texts));
    }

    fn subgroup(&mut self, subgroup: &Subgroup, objects: &[(u64, Bytes)]) {
        let upstream = self.upstream;
        self.stage.tell(self.publisher, |peer| peer.send_subgroup(upstream, subgroup, objects));
    }

    fn open(&mut self, subgroup: &Subgroup) -> Writer {
        let upstream = self.upstream;
        self.stage.tell(self.publisher, |peer| peer.open(upstream, subgroup).unwrap())
    }

    fn object(&mut self, writer: &mut Writer, object: u64, text: &str) {
        let text = payload(text);
        self.stage.tell(self.publisher, |peer| writer.object(peer.session(), object, text));
    }

    fn finish(&mut self, writer: &Writer) {
        self.stage.tell(self.publisher, |peer| writer.finish(peer.session()));
    }

    fn heard(&mut self) -> Vec<String> {
        self.stage.lines(self.subscriber)
    }
}

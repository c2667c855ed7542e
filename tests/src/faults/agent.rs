//! Publishers and subscribers on real sockets: one worker with one session to each target.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::mpsc,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::PublishDoneCode,
    id::{GroupId, ObjectId, RequestId, TrackAlias},
    name::{FullTrackName, TrackNamespace},
    parameter::Parameters,
    property::Properties,
    stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
};
use aip_engine::{
    io::{self, Config, Handle, Target},
    session::{self, Event, Request, Response, Session},
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::{Bytes, BytesMut};

/// The longest wait for anything that has no goal of its own.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One group: a stream.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its number.
    pub id: u64,
    /// How many objects it has.
    pub objects: u64,
    /// How long each payload is.
    pub length: usize,
}

/// What a test tells an agent.
#[derive(Clone, Debug)]
pub enum Command {
    /// Subscribe to a track on every session.
    Subscribe(u64),
    /// Send these groups, in this order, to who has subscribed to the track.
    Publish(u64, Vec<Group>),
}

/// What an agent tells a test.
#[derive(Clone, Debug)]
pub enum Told {
    /// A session is established.
    Established(SessionId),
    /// The relay has accepted our namespace.
    Announced(SessionId),
    /// The relay has subscribed to a track of ours.
    Subscriber(u64),
    /// Our subscription to a track was accepted.
    Accepted(SessionId, u64),
    /// Our subscription was refused or has ended.
    Ended(SessionId, Option<PublishDoneCode>),
    /// An object is here, whole.
    Object {
        /// On which session.
        session: SessionId,
        /// Of which track.
        track: u64,
        /// Its group.
        group: u64,
        /// Its number.
        object: u64,
        /// Whether its payload is what was sent.
        intact: bool,
    },
    /// A session is over.
    Closed(SessionId, Closed),
}

/// Whether an agent publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It announces its namespace on every session.
    Publisher,
    /// It says nothing of its own.
    Subscriber,
}

/// A worker with its agent. Dropping it ends its sessions with a farewell.
#[derive(Debug)]
pub struct Agent {
    handle: Handle<Command>,
    told: mpsc::Receiver<Told>,
}

impl Agent {
    /// An agent with one session to each of `targets`, again and again.
    ///
    /// # Panics
    /// If there is no socket for it.
    pub fn new(role: Role, targets: Vec<Target>) -> Self {
        let (tell, told) = mpsc::channel();
        let config = Config::client(targets).with_drain_timeout(Duration::from_millis(100));
        let handle = io::spawn(config, move || Sessions::new(role, tell)).expect("a socket");
        Self { handle, told }
    }

    /// Tells it something.
    ///
    /// # Panics
    /// If it is no more.
    pub fn tell(&self, command: Command) {
        self.handle.mailbox().send(command).expect("the agent is there and reads its mail");
    }

    /// Waits until `wanted` says that it has heard enough; false if that takes longer than
    /// `patience`.
    pub fn listen(&self, patience: Duration, mut wanted: impl FnMut(Told) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) => {
                    if wanted(told) {
                        return true;
                    }
                }
                Err(_) => return false,
            }
        }
    }

    /// Waits for `count` things that `wanted` knows.
    ///
    /// # Errors
    /// If they do not come.
    pub fn wait(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Told) -> bool,
    ) -> std::io::Result<()> {
        let mut heard = 0;
        let mut last = VecDeque::new();
        let came = self.listen(PATIENCE, |told| {
            heard += usize::from(wanted(&told));
            last.push_back(told);
            if 8 < last.len() {
                last.pop_front();
            }
            heard == count
        });
        if came {
            return Ok(());
        }
        let what = format!("{heard} of {count} {what} in {PATIENCE:?}; last told: {last:?}");
        Err(std::io::Error::other(what))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.handle.wait(Duration::from_secs(5));
    }
}

/// The namespace that publishers announce.
fn namespace() -> TrackNamespace {
    TrackNamespace::new(["faults"]).expect("a short namespace")
}

fn name(track: u64) -> FullTrackName {
    FullTrackName::new(namespace(), Bytes::from(track.to_string())).expect("a short name")
}

fn number(name: &FullTrackName) -> Option<u64> {
    std::str::from_utf8(name.name()).ok()?.parse().ok()
}

/// The payload of an object: every object has another.
fn payload(track: u64, group: u64, object: u64, length: usize) -> Bytes {
    let mut random = crate::sim::random::Random::new(track << 48 ^ group << 16 ^ object);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.next().to_be_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// An object that is arriving.
struct Arriving {
    object: u64,
    bytes: BytesMut,
}

struct Link {
    session: Session,
    /// Our subscriptions, by request.
    subscriptions: HashMap<RequestId, u64>,
    /// Tracks by the relay's alias.
    aliases: HashMap<TrackAlias, u64>,
    /// Where each stream is: track, group, and the object that is arriving.
    streams: HashMap<StreamId, (u64, u64, Option<Arriving>)>,
    /// The relay's subscriptions to our tracks.
    publications: Vec<(RequestId, u64)>,
}

struct Sessions {
    role: Role,
    tell: mpsc::Sender<Told>,
    links: BTreeMap<SessionId, Link>,
    wanted: Vec<u64>,
    announcements: HashMap<(SessionId, RequestId), ()>,
    draining: bool,
}

impl Sessions {
    fn new(role: Role, tell: mpsc::Sender<Told>) -> Self {
        Self {
            role,
            tell,
            links: BTreeMap::new(),
            wanted: Vec::new(),
            announcements: HashMap::new(),
            draining: false,
        }
    }

    fn tell(&self, told: Told) {
        // The test may be over.
        drop(self.tell.send(told));
    }

    fn with(&mut self, id: SessionId, tell: impl FnOnce(&mut Session)) {
        let Some(link) = self.links.get_mut(&id) else { return };
        tell(&mut link.session);
        while let Some(event) = self.links.get_mut(&id).and_then(|it| it.session.poll_event()) {
            self.handle_event(id, event);
        }
    }

    fn handle_event(&mut self, id: SessionId, event: Event) {
        match event {
            Event::Established { .. } => self.established(id),
            Event::Request { request, body, .. } => self.request(id, request, body),
            Event::Response { request, body } => self.response(id, request, body),
            Event::PublishDone { request, body } => {
                self.subscription_over(id, request, Some(body.code));
            }
            Event::Ended { request } => self.request_over(id, request),
            Event::SubgroupOpened { stream, header } => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some(&track) = link.aliases.get(&header.track_alias) {
                    link.streams.insert(stream, (track, header.group.0, None));
                }
            }
            Event::Object { stream, object } => {
                let (number, bytes) = (object.header.object.0, BytesMut::from(&object.payload[..]));
                let Some(link) = self.links.get_mut(&id) else { return };
                let Some(place) = link.streams.get_mut(&stream) else { return };
                place.2 = Some(Arriving { object: number, bytes });
                if object.last {
                    self.object_whole(id, stream);
                }
            }
            Event::Payload { stream, bytes, last } => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some((.., Some(arriving))) = link.streams.get_mut(&stream) {
                    arriving.bytes.extend_from_slice(&bytes);
                }
                if last {
                    self.object_whole(id, stream);
                }
            }
            Event::SubgroupEnded { stream, .. } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.streams.remove(&stream);
                }
            }
            _ => {}
        }
    }

    fn established(&mut self, id: SessionId) {
        self.tell(Told::Established(id));
        if self.role == Role::Publisher {
            let mut asked = None;
            self.with(id, |session| {
                asked = session.publish_namespace(namespace(), Parameters::default()).ok();
            });
            self.announcements.extend(asked.map(|request| ((id, request), ())));
        }
        for track in self.wanted.clone() {
            self.subscribe(id, track);
        }
    }

    fn subscribe(&mut self, id: SessionId, track: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.session.is_established()
            && let Ok(request) = link.session.subscribe(name(track), Parameters::default())
        {
            link.subscriptions.insert(request, track);
        }
    }

    fn request(&mut self, id: SessionId, request: RequestId, body: Request) {
        let Request::Subscribe(subscribe) = body else { return };
        let Some(track) = number(&subscribe.track) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        let (parameters, properties) = (Parameters::default(), Properties::default());
        link.session.accept_subscribe(request, TrackAlias(track), parameters, properties);
        link.publications.push((request, track));
        self.tell(Told::Subscriber(track));
    }

    fn response(&mut self, id: SessionId, request: RequestId, body: Response) {
        match body {
            Response::SubscribeOk(ok) => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some(&track) = link.subscriptions.get(&request) {
                    link.aliases.insert(ok.track_alias, track);
                    self.tell(Told::Accepted(id, track));
                }
            }
            Response::Ok(_) if self.announcements.contains_key(&(id, request)) => {
                self.tell(Told::Announced(id));
            }
            Response::Error(_) => self.subscription_over(id, request, None),
            _ => {}
        }
    }

    fn subscription_over(
        &mut self,
        id: SessionId,
        request: RequestId,
        code: Option<PublishDoneCode>,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.subscriptions.remove(&request).is_some() {
            self.tell(Told::Ended(id, code));
        }
    }

    fn request_over(&mut self, id: SessionId, request: RequestId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.publications.retain(|(other, _)| *other != request);
        }
        self.subscription_over(id, request, None);
    }

    fn object_whole(&mut self, session: SessionId, stream: StreamId) {
        let Some(link) = self.links.get_mut(&session) else { return };
        let Some((track, group, arriving)) = link.streams.get_mut(&stream) else { return };
        let Some(Arriving { object, bytes }) = arriving.take() else { return };
        let (track, group) = (*track, *group);
        let intact = bytes == payload(track, group, object, bytes.len());
        self.tell(Told::Object { session, track, group, object, intact });
    }

    fn publish(&mut self, track: u64, groups: &[Group]) {
        for group in groups {
            for Link { session, publications, .. } in self.links.values_mut() {
                for (request, _) in publications.iter().filter(|(_, of)| *of == track) {
                    send_group(session, *request, track, *group);
                }
            }
        }
    }
}

fn send_group(session: &mut Session, request: RequestId, track: u64, group: Group) {
    let header = SubgroupHeader {
        track_alias: TrackAlias(track),
        group: GroupId(group.id),
        subgroup: SubgroupMode::Zero,
        priority: Some(128),
        properties: false,
        end_of_group: true,
        first_object: true,
    };
    let delivery = session::Delivery::default();
    let Some(stream) = session.open_subgroup(request, &header, &delivery) else { return };
    let mut encoder = Encoder::new(false);
    for object in 0..group.objects {
        let payload = payload(track, group.id, object, group.length);
        let header = ObjectHeader {
            object: ObjectId(object),
            properties: Properties::default(),
            payload_length: payload.len() as u64,
            status: ObjectStatus::Normal,
        };
        let mut bytes = BytesMut::new();
        encoder.object(&header, &mut bytes).expect("objects ascend");
        session.send(stream, bytes.freeze(), false);
        session.send(stream, payload, object + 1 == group.objects);
    }
}

impl Driver for Sessions {
    type Command = Command;

    fn handle_connected(&mut self, id: SessionId, peer: Peer, now: Instant) {
        let mut config = session::Config::default();
        config.authority.clone_from(&peer.authority);
        let session = Session::new(config, peer.side, peer.version, now);
        let link = Link {
            session,
            subscriptions: HashMap::new(),
            aliases: HashMap::new(),
            streams: HashMap::new(),
            publications: Vec::new(),
        };
        self.links.insert(id, link);
    }

    fn handle_stream(
        &mut self,
        id: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with(id, |session| session.handle_stream(stream, bytes, fin, now));
    }

    fn handle_reset(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |session| session.handle_reset(stream, code, now));
    }

    fn handle_stop(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |session| session.handle_stop(stream, code, now));
    }

    fn handle_datagram(&mut self, id: SessionId, bytes: Bytes, now: Instant) {
        self.with(id, |session| session.handle_datagram(bytes, now));
    }

    fn handle_sent(&mut self, id: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.with(id, |session| {
            session.handle_sent(stream, length, now);
        });
    }

    fn handle_closed(&mut self, id: SessionId, closed: Closed, _: Instant) {
        self.links.remove(&id);
        self.tell(Told::Closed(id, closed));
    }

    fn handle_unreachable(&mut self, _: usize, _: &str, _: Instant) {}

    fn handle_command(&mut self, command: Command, _: Instant) {
        match command {
            Command::Subscribe(track) => {
                self.wanted.push(track);
                for id in self.links.keys().copied().collect::<Vec<_>>() {
                    self.subscribe(id, track);
                }
            }
            Command::Publish(track, groups) => self.publish(track, &groups),
        }
    }

    fn handle_drain(&mut self, _: Instant) {
        self.draining = true;
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn handle_timeout(&mut self, now: Instant) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.with(id, |session| session.handle_timeout(now));
        }
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.links
            .iter_mut()
            .find_map(|(id, link)| link.session.poll_action().map(|action| (*id, action)))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|link| link.session.poll_timeout()).min()
    }
}

//! A node that is one bare session: it says what a test has it say, and keeps what it hears.

use std::{
    any::Any,
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use aip_codec::moqt::{
    error_code::RequestCode,
    id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
    location::Location,
    parameter::{GroupOrder, Parameters},
    property::Properties,
    stream::{
        fetch::{Encoder as FetchEncoder, FetchObject, RangeKind},
        subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
    },
};
use aip_engine::{
    session::{Config, Delivery, Event, Request, Response, Session},
    transport::{Action, Closed, Peer as TransportPeer, SessionId, StreamId},
};
use bytes::{Bytes, BytesMut};

use super::node::Node;

/// See the module.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    current: Option<(SessionId, Session)>,
    /// What the session has told, oldest first.
    pub events: VecDeque<Event>,
    /// How the last connection ended, if it has.
    pub closed: Option<Closed>,
    /// Subgroup streams whose header has come.
    opened: BTreeSet<StreamId>,
    /// Data streams that were reset before anything could be told of them.
    unnamed_resets: usize,
    /// Whether data streams are left unread.
    stalled: bool,
    paused: BTreeSet<StreamId>,
    actions: VecDeque<Action>,
}

impl Default for Peer {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Peer {
    /// A peer whose session will have this configuration.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            current: None,
            events: VecDeque::new(),
            closed: None,
            opened: BTreeSet::new(),
            unnamed_resets: 0,
            stalled: false,
            paused: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// The session.
    ///
    /// # Panics
    /// If there is none.
    pub fn session(&mut self) -> &mut Session {
        &mut self.current.as_mut().expect("the peer is connected").1
    }

    /// Whether there is a session.
    pub const fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    /// Leaves data streams unread, or reads them again.
    pub fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        if !stalled {
            let paused = std::mem::take(&mut self.paused);
            self.actions.extend(paused.into_iter().map(|stream| Action::Resume { stream }));
        }
    }

    /// The events so far, which are then forgotten.
    pub fn take(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// How many data streams were reset so far before their headers came, which is then forgotten: of
    /// what, nobody can tell.
    pub const fn take_unnamed_resets(&mut self) -> usize {
        std::mem::replace(&mut self.unnamed_resets, 0)
    }

    /// The requests so far, other events are left.
    pub fn take_requests(&mut self) -> Vec<(RequestId, Request)> {
        let mut requests = Vec::new();
        self.events.retain(|event| match event {
            Event::Request { request, body, .. } => {
                requests.push((*request, body.clone()));
                false
            }
            _ => true,
        });
        requests
    }

    /// The answer to a request of ours, which is then forgotten.
    pub fn take_response(&mut self, request: RequestId) -> Option<Response> {
        let at = self.events.iter().position(
            |event| matches!(event, Event::Response { request: other, .. } if *other == request),
        )?;
        match self.events.remove(at) {
            Some(Event::Response { body, .. }) => Some(body),
            _ => None,
        }
    }

    /// The code with which a request of ours was refused.
    pub fn take_refusal(&mut self, request: RequestId) -> Option<RequestCode> {
        match self.take_response(request)? {
            Response::Error(error) => Some(error.code),
            _ => None,
        }
    }

    /// Accepts a SUBSCRIBE.
    pub fn accept_subscribe(&mut self, request: RequestId, alias: u64, parameters: Parameters) {
        let properties = Properties::default();
        self.session().accept_subscribe(request, TrackAlias(alias), parameters, properties);
    }

    /// Accepts any request but SUBSCRIBE and FETCH.
    pub fn accept(&mut self, request: RequestId) {
        self.session().accept(request, Parameters::default(), Properties::default());
    }

    /// Opens a subgroup's stream.
    pub fn open(&mut self, subscription: RequestId, subgroup: &Subgroup) -> Option<Writer> {
        let header = subgroup.header();
        let stream = self.session().open_subgroup(subscription, &header, &Delivery::default())?;
        Some(Writer { stream, encoder: Encoder::new(header.properties) })
    }

    /// Sends a whole subgroup.
    pub fn send_subgroup(
        &mut self,
        subscription: RequestId,
        subgroup: &Subgroup,
        objects: &[(u64, Bytes)],
    ) {
        let Some(mut writer) = self.open(subscription, subgroup) else { return };
        for (object, payload) in objects {
            writer.object(self.session(), *object, payload.clone());
        }
        writer.finish(self.session());
    }

    /// Answers a FETCH with these objects, each in a subgroup 0, and with ranges of nothing.
    ///
    /// # Panics
    /// If the items do not come in order.
    pub fn send_fetch(&mut self, fetch: RequestId, order: GroupOrder, items: &[FetchItem]) {
        self.send_fetch_of(fetch, order, items, |_| SubgroupId(0));
    }

    /// The same, each object in the subgroup that `subgroup` says.
    ///
    /// # Panics
    /// If the items do not come in order.
    pub fn send_fetch_of(
        &mut self,
        fetch: RequestId,
        order: GroupOrder,
        items: &[FetchItem],
        subgroup: impl Fn(Location) -> SubgroupId,
    ) {
        let version = self.session().version();
        let Some(stream) = self.session().open_fetch(fetch, 9) else { return };
        let mut encoder = FetchEncoder::new(version, order);
        for item in items {
            let mut out = BytesMut::new();
            let encoded = match item {
                FetchItem::Object(location, payload) => {
                    let object = FetchObject {
                        location: *location,
                        subgroup: Some(subgroup(*location)),
                        priority: 128,
                        properties: Properties::default(),
                        payload_length: payload.len() as u64,
                    };
                    let encoded = encoder.object(&object, &mut out);
                    out.extend_from_slice(payload);
                    encoded
                }
                FetchItem::Range(kind, end) => encoder.range(*kind, *end, &mut out),
            };
            encoded.expect("the test's items come in order");
            self.session().send(stream, out.freeze(), false);
        }
        self.session().send(stream, Bytes::new(), true);
    }

    fn tell(&mut self, id: SessionId, tell: impl FnOnce(&mut Session)) {
        let Some((_, session)) = self.current.as_mut().filter(|(current, _)| *current == id) else {
            return;
        };
        tell(session);
        while let Some(event) = session.poll_event() {
            if let Event::SubgroupOpened { stream, .. } = event {
                self.opened.insert(stream);
            }
            self.events.push_back(event);
        }
    }
}

/// An item of a fetch stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchItem {
    /// An object and its payload.
    Object(Location, Bytes),
    /// Nothing from the item before to there.
    Range(RangeKind, Location),
}

/// What a subgroup's stream says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Subgroup {
    /// The publisher's alias.
    pub alias: u64,
    /// The group.
    pub group: u64,
    /// The subgroup; `None` is named by its first object.
    pub subgroup: Option<u64>,
    /// The priority, if it is not the track's.
    pub priority: Option<u8>,
    /// Whether objects have properties.
    pub properties: bool,
    /// Whether its last object is the group's last.
    pub end_of_group: bool,
    /// Whether its first object is the subgroup's first.
    pub first_object: bool,
}

impl Subgroup {
    /// Subgroup 0 of a group, which is all of it.
    pub const fn new(alias: u64, group: u64) -> Self {
        Self {
            alias,
            group,
            subgroup: Some(0),
            priority: None,
            properties: false,
            end_of_group: true,
            first_object: true,
        }
    }

    const fn header(&self) -> SubgroupHeader {
        SubgroupHeader {
            track_alias: TrackAlias(self.alias),
            group: GroupId(self.group),
            subgroup: match self.subgroup {
                Some(0) => SubgroupMode::Zero,
                Some(subgroup) => SubgroupMode::Explicit(SubgroupId(subgroup)),
                None => SubgroupMode::FirstObject,
            },
            priority: self.priority,
            properties: self.properties,
            end_of_group: self.end_of_group,
            first_object: self.first_object,
        }
    }
}

/// A subgroup's stream that is being written.
#[derive(Debug)]
pub struct Writer {
    /// Its stream.
    pub stream: StreamId,
    encoder: Encoder,
}

impl Writer {
    /// Sends an object.
    pub fn object(&mut self, session: &mut Session, object: u64, payload: Bytes) {
        self.begin(session, object, payload.len() as u64, Properties::default());
        session.send(self.stream, payload, false);
    }

    /// Sends an object's header.
    ///
    /// # Panics
    /// If objects do not ascend.
    pub fn begin(
        &mut self,
        session: &mut Session,
        object: u64,
        payload_length: u64,
        properties: Properties,
    ) {
        let status = ObjectStatus::Normal;
        let object = ObjectId(object);
        self.header(session, &ObjectHeader { object, properties, payload_length, status });
    }

    /// Says that there is no object of this number or above.
    pub fn status(&mut self, session: &mut Session, object: u64, status: ObjectStatus) {
        let (object, properties) = (ObjectId(object), Properties::default());
        self.header(session, &ObjectHeader { object, properties, payload_length: 0, status });
    }

    fn header(&mut self, session: &mut Session, header: &ObjectHeader) {
        let mut out = BytesMut::new();
        self.encoder.object(header, &mut out).expect("the test's objects ascend");
        session.send(self.stream, out.freeze(), false);
    }

    /// Ends the stream.
    pub fn finish(&self, session: &mut Session) {
        session.send(self.stream, Bytes::new(), true);
    }
}

impl Node for Peer {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn handle_connected(&mut self, id: SessionId, peer: TransportPeer, now: Instant) {
        let session = Session::new(self.config.clone(), peer.side, peer.version, now);
        self.current = Some((id, session));
        self.closed = None;
        self.opened.clear();
        self.unnamed_resets = 0;
    }

    fn handle_stream(
        &mut self,
        id: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.tell(id, |session| session.handle_stream(stream, bytes, fin, now));
        if self.stalled && !stream.is_bidirectional() && stream.0 >> 2 != 0 {
            self.paused.insert(stream);
            self.actions.push_back(Action::Pause { stream });
        }
    }

    fn handle_reset(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        let told = self.events.len();
        self.tell(id, |session| session.handle_reset(stream, code, now));
        let is_named = self.events.len() != told || self.opened.contains(&stream);
        self.unnamed_resets += usize::from(!stream.is_bidirectional() && !is_named);
    }

    fn handle_stop(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.tell(id, |session| session.handle_stop(stream, code, now));
    }

    fn handle_datagram(&mut self, id: SessionId, bytes: Bytes, now: Instant) {
        self.tell(id, |session| session.handle_datagram(bytes, now));
    }

    fn handle_sent(&mut self, id: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.tell(id, |session| {
            session.handle_sent(stream, length, now);
        });
    }

    fn handle_closed(&mut self, id: SessionId, closed: Closed, _now: Instant) {
        if self.current.as_ref().is_some_and(|(current, _)| *current == id) {
            self.current = None;
            self.closed = Some(closed);
            self.actions.clear();
            self.paused.clear();
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(id) = self.current.as_ref().map(|(id, _)| *id) {
            self.tell(id, |session| session.handle_timeout(now));
        }
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        let (id, session) = self.current.as_mut()?;
        let action = self.actions.pop_front().or_else(|| session.poll_action())?;
        Some((*id, action))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.current.as_ref()?.1.poll_timeout()
    }
}
